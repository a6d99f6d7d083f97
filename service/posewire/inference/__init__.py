"""From frames to poses: sessions, batching, the detector, the pose model and the pipeline over them."""
