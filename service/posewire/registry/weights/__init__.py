"""Tensors of weights, and the files that they lie in."""
