"""Batches: the images of folders, archives, tables and videos, and results that survive the end of the process at any moment."""
