"""What runs a network: one file or package a backend."""
