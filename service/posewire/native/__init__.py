"""Compiled code: its sources, and the loader."""
