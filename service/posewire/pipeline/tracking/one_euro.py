"""Jitter taken out of keypoints without making them late: the one-euro filter (Casiez, Roussel and Vogel, CHI 2012).

A low-pass filter whose cut-off frequency rises with speed: steady where a person stands, quick where they move. Ours
runs in real time, so that frames which were dropped or come irregularly change nothing; measures speed in sizes of the
person, so that near and far people are smoothed alike; and weighs a keypoint by its score.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posewire.types import FloatArray, Keypoints

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SmoothPolicy:
    """The filter's parameters, by the names of the paper."""

    min_cutoff: float = 0.8  # hertz: of a person who stands
    beta: float = 2.0  # hertz for a speed of one size a second
    d_cutoff: float = 0.3  # hertz: of the speed itself
    trusted_score: float = 0.7  # a keypoint of this score or more moves the state in full; a lesser one in proportion
    unseen_score: float = 0.1  # a keypoint below is not seen
    restart_s: float = 0.5  # a keypoint that was not seen for longer starts anew


class KeypointSmoother:
    """The filter of one person's K keypoints.

    Args:
        keypoints: K.
        policy: parameters.
    """

    def __init__(self, keypoints: int, policy: SmoothPolicy | None = None) -> None:
        self._policy = policy or SmoothPolicy()
        self._xy: _Array = np.zeros((keypoints, 2))
        self._found: _Array = np.zeros((keypoints, 2))  # where each was last found, before smoothing
        self._speed: _Array = np.zeros((keypoints, 2))  # sizes a second
        self._at: _Array = np.full(keypoints, -np.inf)  # when each was last seen, seconds

    def step(self, t: float, found: Keypoints, size: float) -> Keypoints:
        """The keypoints of the next frame, smoothed.

        Args:
            t: of the frame, seconds; later than the one before.
            found: as the pose model placed them; not finite or below `unseen_score`: passed on as they are.
            size: of the person, pixels: the square root of the box's area.

        Returns:
            The same scores, and places between the last ones and those found.
        """
        policy = self._policy
        xy, scores = found.xy.astype(np.float64), found.scores.astype(np.float64)
        seen = (scores >= policy.unseen_score) & np.isfinite(xy).all(1)
        gap = t - self._at
        fresh = seen & (gap > policy.restart_s)
        going = seen & ~fresh & (gap > 0)
        self._xy[fresh], self._speed[fresh] = xy[fresh], 0.0
        if going.any():
            self._advance(going, xy[going], gap[going, None], max(size, 1.0), np.minimum(scores[going, None] / policy.trusted_score, 1))
        self._found[seen], self._at[seen] = xy[seen], t
        return Keypoints(np.where(seen[:, None], self._xy, found.xy).astype(np.float32), found.scores)

    def _advance(self, going: npt.NDArray[np.bool_], xy: _Array, gap: _Array, size: float, weight: _Array) -> None:
        policy = self._policy
        moved = (xy - self._found[going]) / (size * gap)
        self._speed[going] += (moved - self._speed[going]) * _share(policy.d_cutoff * weight, gap)
        speed = np.linalg.norm(self._speed[going], axis=1, keepdims=True)
        self._xy[going] += (xy - self._xy[going]) * _share((policy.min_cutoff + policy.beta * speed) * weight, gap)


def _share(cutoff: _Array, gap: _Array) -> _Array:
    """How much of the way to a new value a low-pass filter goes in a time.

    The paper has the first-order approximation, r / (1 + r) with r = 2 pi cutoff gap; this is the exact solution, for
    which two short steps are one long one.
    """
    return np.asarray(-np.expm1(-2 * np.pi * cutoff * gap))


def size_of(box_xywh: FloatArray) -> float:
    """Of a person, pixels: the square root of their box's area."""
    return float(np.sqrt(max(float(box_xywh[2] * box_xywh[3]), 0.0)))
