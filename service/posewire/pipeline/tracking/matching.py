"""How alike two people's places are, and who is who by the best sum of it.

Keypoints are compared by OKS, COCO's object keypoint similarity; boxes by IoU. Coordinates are pixels of one image.
"""

import lap
import numpy as np

from posewire.types import SEEN_SCORE, FloatArray, Keypoints

# Fewer keypoints that both sides show are too few to compare by.
_LEAST_COMMON = 5


def box_iou(a_xywh: FloatArray, b_xywh: FloatArray) -> FloatArray:
    """Intersection over union of boxes (N, 4) with boxes (M, 4): (N, M) float32, 0..1."""
    a0, b0 = a_xywh[:, None, :2], b_xywh[None, :, :2]
    sides = np.minimum(a0 + a_xywh[:, None, 2:], b0 + b_xywh[None, :, 2:]) - np.maximum(a0, b0)
    shared = np.maximum(sides, 0).prod(-1)
    union = a_xywh[:, None, 2:].prod(-1) + b_xywh[None, :, 2:].prod(-1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float32)


def covered(a_xywh: FloatArray, b_xywh: FloatArray) -> float:
    """The share of the smaller of two boxes (4,) that lies within the other, 0..1."""
    sides = np.minimum(a_xywh[:2] + a_xywh[2:], b_xywh[:2] + b_xywh[2:]) - np.maximum(a_xywh[:2], b_xywh[:2])
    smaller = min(float(a_xywh[2:].prod()), float(b_xywh[2:].prod()))
    return float(np.maximum(sides, 0).prod()) / max(smaller, 1e-9)


def oks(a: Keypoints, b: Keypoints, area: float, sigmas: FloatArray, doubt: float = 0.0) -> float | None:
    """Object keypoint similarity of two poses, over the keypoints that both show.

    Args:
        a: one pose.
        b: the other.
        area: of the person, square pixels.
        sigmas: (K,) float32, COCO's, in units of the square root of the area.
        doubt: how unsure the places are beside that, in the same units: a person moves between two frames.

    Returns:
        0..1; None where too few keypoints are shown by both.
    """
    common = (a.scores >= SEEN_SCORE) & (b.scores >= SEEN_SCORE)
    if common.sum() < _LEAST_COMMON:
        return None
    squared = ((a.xy[common] - b.xy[common]) ** 2).sum(1)
    variances = (2 * sigmas[common]) ** 2 + doubt**2
    return float(np.exp(-squared / (2 * max(area, 1.0) * variances)).mean())


def assign(similarity: FloatArray, least: float) -> list[tuple[int, int]]:
    """The pairing with the greatest sum of similarities (Jonker and Volgenant), in pairs of (row, column).

    Args:
        similarity: (N, M) float32.
        least: pairs of less stay apart.
    """
    if not similarity.size:
        return []
    _, columns, _ = lap.lapjv(1.0 - similarity.astype(np.float64), extend_cost=True, cost_limit=1.0 - least)
    return [(row, int(column)) for row, column in enumerate(columns) if column >= 0]


def extent(keypoints: Keypoints) -> FloatArray | None:
    """The box (4,) x y w h about the keypoints that are shown, with a margin for head and feet; None: too few are shown."""
    shown = keypoints.xy[keypoints.scores >= SEEN_SCORE]
    if len(shown) < len(keypoints.scores) / 2:
        return None
    low, high = shown.min(0), shown.max(0)
    size = high - low
    margin = np.maximum(size, size.max() / 4) * 0.12
    return np.concatenate([low - margin, size + 2 * margin]).astype(np.float32)
