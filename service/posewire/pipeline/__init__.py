"""From one image to its people: detector, pose estimator, heads and tracking."""
