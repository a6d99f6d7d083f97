"""What the networks are trained on: loaders, a teacher's labels, the check for leaks, and images cut once to memory-mapped files."""
