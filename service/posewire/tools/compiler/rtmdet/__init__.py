"""RTMDet-nano for people: its layers, its ONNX graph, and the published file of it."""
