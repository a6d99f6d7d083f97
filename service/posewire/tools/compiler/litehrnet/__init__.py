"""Published Lite-HRNet checkpoints, and the fast ONNX graph that is made of them."""
