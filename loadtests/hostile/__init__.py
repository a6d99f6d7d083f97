"""Inputs that were damaged on purpose, from a seed: the same number gives the same bytes."""
