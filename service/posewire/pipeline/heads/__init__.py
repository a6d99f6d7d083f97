"""Heads: a network's raw output to boxes or keypoints."""
