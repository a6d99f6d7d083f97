"""Cameras that the service watches: kept on disk, each read by a process of its own."""
