"""One command from a checkpoint to a model that ships: `python -m model_store.release`."""
