"""The small person detector: its network, how cells are assigned to people, and its loss."""
