"""Pose networks of others beside ours, on the same crops: how long a run takes, and how well the keypoints lie."""
