"""A curve that maps a network's score to the probability of being right."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posewire.types import FloatArray

_FLOOR = 1e-6  # a score of 0 or 1 has no logit


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """Platt scaling (Platt, 1999): score to sigmoid(scale logit(score) + shift); it keeps the order of scores."""

    scale: float
    shift: float

    def __call__(self, scores: FloatArray) -> FloatArray:
        """Return calibrated scores, 0..1, of the same shape as `scores`, which are clipped to nearly 0 and nearly 1."""
        return np.asarray(sigmoid(self.scale * logit(scores) + self.shift), np.float32)

    def raw(self, calibrated: float) -> float:
        """Return the score 0..1 that the curve maps to `calibrated`; 0 for 0, so that no score is below it."""
        if calibrated <= 0:
            return 0.0
        [z] = logit(np.array([calibrated], np.float32))
        return float(sigmoid((z - self.shift) / self.scale))


def sigmoid(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the logistic function; it does not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(z / 2)), np.float64)


def logit(scores: FloatArray) -> npt.NDArray[np.float64]:
    """Return the inverse of `sigmoid`, of scores that are clipped to a millionth from 0 and 1."""
    safe = np.clip(scores.astype(np.float64), _FLOOR, 1 - _FLOOR)
    return np.asarray(np.log(safe / (1 - safe)), np.float64)
