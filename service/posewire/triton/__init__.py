"""What runs in NVIDIA's Triton Inference Server: the pipeline, with its networks served by Triton."""
