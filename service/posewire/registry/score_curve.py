"""What a network's score is worth: a curve that turns it into the chance of being right."""

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
        """Calibrated scores, 0..1, of the same shape as `scores`; scores of 0 and below, and of 1 and above, count as nearly 0 and 1."""
        return np.asarray(sigmoid(self.scale * logit(scores) + self.shift), np.float32)

    def raw(self, calibrated: float) -> float:
        """The score 0..1 that the curve makes `calibrated` of; 0 for 0, so that no score lies below it."""
        if calibrated <= 0:
            return 0.0
        [z] = logit(np.array([calibrated], np.float32))
        return float(sigmoid((z - self.shift) / self.scale))


def sigmoid(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The logistic function; it does not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(z / 2)), np.float64)


def logit(scores: FloatArray) -> npt.NDArray[np.float64]:
    """The inverse of `sigmoid`, of scores that are cut to a millionth from 0 and 1."""
    safe = np.clip(scores.astype(np.float64), _FLOOR, 1 - _FLOOR)
    return np.asarray(np.log(safe / (1 - safe)), np.float64)
