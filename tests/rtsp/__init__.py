"""A real RTSP server for tests and load tests."""
