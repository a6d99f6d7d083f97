"""Identities and smooth keypoints over the frames of a video."""
