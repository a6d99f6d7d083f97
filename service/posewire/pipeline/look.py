"""The look of a model's keypoints: `imaging` draws, and knows no keypoint sets."""

from posewire.imaging.draw import Look
from posewire.registry.keypoint_sets import KeypointSet


def look_of(keypoints: KeypointSet) -> Look:
    """Return how the keypoints of a set are drawn."""
    return Look.of(keypoints.names, keypoints.skeleton, keypoints.colours, keypoints.small)
