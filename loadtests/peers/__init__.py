"""The same two models and the same functions behind what people would pick instead."""
