"""Sinks: messages of cameras to files, webhooks and brokers. One file a kind of sink."""
