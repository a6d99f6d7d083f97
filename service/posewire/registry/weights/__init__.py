"""The tensors of weights and their files."""
