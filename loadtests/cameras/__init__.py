"""Load tests of cameras that the service watches: real RTSP servers, a real broker, and faults."""
