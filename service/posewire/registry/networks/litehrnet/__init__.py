"""Lite-HRNet and its variants."""
