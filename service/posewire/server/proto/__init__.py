"""The messages of the Open Inference Protocol for gRPC, generated from `open_inference.proto`."""
