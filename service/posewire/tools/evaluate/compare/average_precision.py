"""COCO's average precision and recall of many resamples of the same images, from matches that were made once.

Matching is per image, so that a resample changes only how often each image counts. The results are those of pycocotools for a set
in which each image is there so many times.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from posewire.tools.evaluate.compare.matches import ImageMatches

# Figures by pycocotools' names: precision or recall, range of area, thresholds of OKS (0: 0.50, 5: 0.75, 9: 0.95).
_ALL = slice(None)
_FIGURES: Final[dict[str, tuple[int, int, slice]]] = {
    "AP": (0, 0, _ALL),
    "AP50": (0, 0, slice(0, 1)),
    "AP75": (0, 0, slice(5, 6)),
    "APm": (0, 1, _ALL),
    "APl": (0, 2, _ALL),
    "AR": (1, 0, _ALL),
    "AR50": (1, 0, slice(0, 1)),
    "AR75": (1, 0, slice(5, 6)),
    "ARm": (1, 1, _ALL),
    "ARl": (1, 2, _ALL),
}
AP_NAMES: Final = tuple(_FIGURES)

_RECALLS = np.linspace(0.0, 1.0, 101)  # at which COCO reads the precision
_TINY = np.spacing(1)  # pycocotools adds it to the divisor


class AveragePrecision:
    """The figures of one model as a function of how often each image counts.

    Args:
        images: matches of every image, in the order of the image ids: equal scores are ordered by it, as in pycocotools.
    """

    def __init__(self, images: Sequence[ImageMatches]) -> None:
        scores = np.concatenate([image.scores for image in images])
        order = np.argsort(-scores, kind="stable")
        self.predictions = len(scores)
        self._image = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])[order]
        self._true = np.concatenate([image.true for image in images], axis=2)[:, :, order]
        self._counted = ~np.concatenate([image.ignored for image in images], axis=2)[:, :, order]
        self._people = np.stack([image.people for image in images])

    def __call__(self, counts: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Return the figures (B, 10), 0..1, in the order of `AP_NAMES`; NaN if nobody counts.

        Args:
            counts: (B, I) how often each of the I images counts, for B resamples.
        """
        weights = counts[:, self._image]
        people = counts @ self._people
        areas, thresholds = self._true.shape[:2]
        values = np.full((2, areas, thresholds, len(counts)), np.nan)
        for area in range(areas):
            known = people[:, area] > 0
            for threshold in range(thresholds):
                values[:, area, threshold, known] = self._curve(weights[known], people[known, area], area, threshold)
        return np.stack([values[kind, area, levels].mean(0) for kind, area, levels in _FIGURES.values()], axis=1)

    def _curve(
        self, weights: npt.NDArray[np.int32], people: npt.NDArray[np.int64], area: int, threshold: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return mean precision and greatest recall (B,) at one threshold of OKS.

        Only true predictions matter: between two of them the precision falls, and behind the last it is not read.
        """
        at = np.flatnonzero(self._true[area, threshold])
        if not len(at):
            return np.zeros(len(weights)), np.zeros(len(weights))
        before = at[-1] + 1
        true = np.cumsum(weights[:, at], axis=1)
        counted = np.cumsum(weights[:, :before] * self._counted[area, threshold, :before], axis=1)[:, at]
        recall = true / people[:, None]
        best = np.maximum.accumulate((true / (counted + _TINY))[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(_RECALLS, recall, side="right")  # number of COCO's recalls that are reached here
        return (best * np.diff(reached, axis=1, prepend=0)).sum(1) / len(_RECALLS), recall[:, -1]
