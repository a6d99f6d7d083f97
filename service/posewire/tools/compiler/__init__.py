"""Checkpoints to ONNX graphs and kernel files."""
