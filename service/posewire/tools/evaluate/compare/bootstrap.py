"""Paired bootstrap: the interval of the difference between two models that were run on the same images.

Images are drawn with replacement, as many as there are, and the figures of both models are computed anew on the same draw. The interval
is that of the percentiles of the differences (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16). Whole
images are drawn, because the people of one image are not independent of one another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
SEED: Final = 0

_MIN_DEFINED = 0.999  # of the resamples: a figure to which fewer than about 7 images contribute has no interval
_MAX_VALUES = 200_000  # of one array of weights: small ones stay in the cache of the processor

# Takes how often each image counts, (B, I) int32; returns F figures (B, F) float64, NaN where a figure is not defined.
Figures: TypeAlias = Callable[[npt.NDArray[np.int32]], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both models. None: it is not defined, as the AP of large people where there are none.

    The ends of the interval are None also if too few images contribute to the figure.
    """

    a: float | None
    b: float | None
    difference: float | None  # b - a
    low: float | None  # end of the interval of the difference
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """True if the whole interval is on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def differences(
    a: Figures,
    b: Figures,
    images: int,
    width: int,
    advance: Callable[[], None] = lambda: None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Difference]:
    """Return every figure of both models, and the 95 % interval of its difference; the same seed gives the same intervals.

    Args:
        a: figures of the first model.
        b: the same figures of the second.
        images: their number, at least 1.
        width: number of predictions of a model, which decides how many resamples are computed at once.
        advance: called after every resample.
        resamples: how many.
        seed: of the draws.
    """
    once = np.ones((1, images), np.int32)
    values_a, values_b = a(once)[0], b(once)[0]
    drawn: list[npt.NDArray[np.float64]] = []
    for counts in _draws(images, resamples, seed, max(1, _MAX_VALUES // max(images, width, 1))):
        drawn.append(b(counts) - a(counts))
        for _ in range(len(counts)):
            advance()
    return [_difference(*one) for one in zip(values_a.tolist(), values_b.tolist(), np.concatenate(drawn).T, strict=True)]


def _draws(images: int, resamples: int, seed: int, at_once: int) -> Iterator[npt.NDArray[np.int32]]:
    """Yield how often each image is drawn, (B, images), for all resamples."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, at_once):
        rows: Sequence[npt.NDArray[np.int64]] = [
            np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(min(at_once, resamples - start))
        ]
        yield np.stack(rows).astype(np.int32)


def _difference(a: float, b: float, drawn: npt.NDArray[np.float64]) -> Difference:
    defined = drawn[np.isfinite(drawn)]
    low = high = None
    if len(defined) >= _MIN_DEFINED * len(drawn):
        low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    if not np.isfinite([a, b]).all():
        return Difference(a if np.isfinite(a) else None, b if np.isfinite(b) else None, None, None, None)
    return Difference(a, b, b - a, low, high)
