"""Read video files and cameras, and write videos. Needs PyAV, the extra `video`."""
