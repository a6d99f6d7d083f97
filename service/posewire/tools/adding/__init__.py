"""`posewire models add`: what an ONNX file is, how that is known, and what must be asked."""
