"""Tools beside the service: the compiler, quantization, evaluation and benchmarks. Nothing that serves imports them."""
