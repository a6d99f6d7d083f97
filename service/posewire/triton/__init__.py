"""The pipeline in NVIDIA's Triton Inference Server, with its networks served by Triton."""
