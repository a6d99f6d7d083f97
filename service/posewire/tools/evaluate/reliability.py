"""Calibration of scores: the share of joints of a score that is right, and a curve that maps scores to it.

Guo et al., ICML 2017 (arXiv 1706.04599) for the expected calibration error; Platt (1999) for the curve.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from posewire.registry.score_curve import ScoreCurve, logit, sigmoid
from posewire.types import FloatArray

BINS: Final = 10  # of equal width

_SMALL = 1e-6  # a step that no longer changes the result
_STEPS = 50  # of Newton's method; about six are needed
_PRIOR = 1e-3  # keeps the curve finite if scores separate right from wrong perfectly


@dataclass(frozen=True, slots=True)
class Bin:
    """Joints, or boxes, whose scores lie in one tenth of 0..1."""

    low: float
    high: float
    count: int
    score: float  # their mean
    right: float  # share that is right


@dataclass(frozen=True, slots=True)
class Reliability:
    """The difference between scores and the probability that a joint is right."""

    ece: float  # expected calibration error: mean of |score - share right| over the bins, weighted by their counts
    brier: float  # mean of the squared difference of score and 0 or 1
    bins: tuple[Bin, ...]  # those with at least one joint

    @classmethod
    def of(cls, scores: FloatArray, right: npt.NDArray[np.bool_]) -> "Reliability":
        """Return the reliability of scores (n,), 0..1; 0 without scores."""
        index = np.minimum((scores * BINS).astype(int), BINS - 1)
        bins = []
        for i in range(BINS):
            here = index == i
            if here.any():
                means = (float(values[here].mean(dtype=np.float64)) for values in (scores, right))
                bins.append(Bin(i / BINS, (i + 1) / BINS, int(here.sum()), *means))
        count = max(len(scores), 1)
        ece = sum(b.count * abs(b.score - b.right) for b in bins) / count
        return cls(ece, float(((scores - right) ** 2).sum(dtype=np.float64)) / count, tuple(bins))


def fit(scores: FloatArray, right: npt.NDArray[np.bool_]) -> ScoreCurve:
    """Fit the curve of maximum likelihood on these joints, which must be of images outside the report.

    Args:
        scores: (n,) float32, 0..1.
        right: (n,) True if the joint is right.
    """
    x = np.stack([logit(scores), np.ones(len(scores))], 1)
    weights = np.array([1.0, 0.0])
    prior = _PRIOR * np.eye(2)
    for _ in range(_STEPS):
        chance = sigmoid(x @ weights)
        gradient = x.T @ (chance - right) + prior @ (weights - [1.0, 0.0])
        step = np.linalg.solve((x * (chance * (1 - chance))[:, None]).T @ x + prior, gradient)
        weights = weights - np.clip(step, -1, 1)
        if np.abs(step).max() < _SMALL:
            break
    return ScoreCurve(float(weights[0]), float(weights[1]))
