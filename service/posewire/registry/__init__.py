"""Models: the manifest, the specs, the store, and where they come from."""
