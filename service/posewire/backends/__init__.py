"""The backends that run networks: one file or package each."""
