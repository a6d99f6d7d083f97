"""Video files and cameras: decoded into upright frames, and encoded with what was found. Needs PyAV, the extra `video`."""
