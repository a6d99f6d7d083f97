"""Architectures as data: layers, channels and sizes."""
