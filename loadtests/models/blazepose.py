"""The output of BlazePose, read as MediaPipe's graph reads it (`tensors_to_pose_landmarks_and_segmentation.pbtxt`)."""

from typing import Final

import numpy as np

from posewire.types import FloatArray, Keypoints

SIDE: Final = 256  # pixels of the square input
LANDMARKS: Final = 39  # 33 that are documented, then the hips' middle and the rim of the circle around the person, then others
CENTRE, RIM = 33, 34
# The 17 of COCO among the 33: nose; eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right.
COCO_OF_33: Final = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
_RADIUS: Final = 3  # heatmap pixels around a landmark that may move it
_SURE: Final = 0.5  # the least peak there that does


def landmarks(raw: FloatArray, heatmaps: FloatArray) -> Keypoints:
    """All landmarks of one person in pixels of the input, each moved to where its heatmap says.

    Args:
        raw: (195,) x y z visibility presence of each landmark; pixels, and logits.
        heatmaps: (h, w, 39) logits.

    Returns:
        (39, 2) pixels of the input and (39,) peaks of the heatmaps, 0..1. Of all that the network answers (visibility, presence,
        the flag) the peaks tell best which people are placed well; they are also what our own scores are.
    """
    rows = raw.reshape(LANDMARKS, 5)
    xy = rows[:, :2].copy()
    height, width, _ = heatmaps.shape
    to_heatmap = np.array([width, height], np.float32) / SIDE
    for i in range(LANDMARKS):
        col, row = (int(v) for v in xy[i] * to_heatmap)
        if not (0 <= col < width and 0 <= row < height):
            continue
        left, top = max(0, col - _RADIUS), max(0, row - _RADIUS)
        window = _sigmoid(heatmaps[top : row + _RADIUS + 1, left : col + _RADIUS + 1, i])
        if window.max() >= _SURE:
            ys, xs = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]]
            xy[i] = np.array([(xs * window).sum(), (ys * window).sum()]) / window.sum() / to_heatmap
    return Keypoints(xy, _sigmoid(heatmaps.max((0, 1))))


def to_coco(found: Keypoints) -> Keypoints:
    """COCO's 17 keypoints of at least 33 landmarks."""
    index = list(COCO_OF_33)
    return Keypoints(found.xy[index], found.scores[index])


def _sigmoid(logits: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)
