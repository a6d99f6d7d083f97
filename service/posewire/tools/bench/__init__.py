"""The speed of model files, compared with each other."""
