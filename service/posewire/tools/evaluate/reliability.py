"""What scores mean: how often a joint of such a score is right, and a curve that makes the score say just that.

Guo et al., ICML 2017 (arXiv 1706.04599) for the expected calibration error; Platt (1999) for the curve.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from posewire.registry.score_curve import ScoreCurve, logit, sigmoid
from posewire.types import FloatArray

BINS: Final = 10  # of equal width

_SMALL = 1e-6  # a step that changes nothing any more
_STEPS = 50  # Newton's; it takes about six
_PRIOR = 1e-3  # keeps the curve finite where scores tell right from wrong without fail


@dataclass(frozen=True, slots=True)
class Bin:
    """Joints, or boxes, whose scores lie in one tenth of 0..1."""

    low: float
    high: float
    count: int
    score: float  # their mean
    right: float  # the share of them that is right


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far scores are from being the chance that a joint is right."""

    ece: float  # expected calibration error: mean of |score - share right| over the bins, weighted by their counts
    brier: float  # mean of the squared difference of score and 0 or 1
    bins: tuple[Bin, ...]  # those that are not empty

    @classmethod
    def of(cls, scores: FloatArray, right: npt.NDArray[np.bool_]) -> "Reliability":
        """Reliability of scores (n,), 0..1; of none it is 0."""
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
    """The curve of the greatest likelihood on these joints: of pictures that nothing is reported on.

    Args:
        scores: (n,) float32, 0..1.
        right: (n,) whether the joint is right.
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
