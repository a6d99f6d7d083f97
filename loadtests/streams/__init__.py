"""Load tests of WebSocket streams."""
