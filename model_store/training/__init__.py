"""Offline only: the torch networks and what trains them."""
