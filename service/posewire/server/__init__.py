"""The HTTP and WebSocket server: one file a route."""
