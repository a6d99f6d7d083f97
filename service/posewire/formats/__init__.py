"""Formats of results: one file a format, and a registry by name. They are pure functions of results."""
