"""Similarity of every annotated keypoint with the predicted one, as sums of each image.

Unlike the tables of a single model, people without a prediction count: their keypoints have a similarity of 0. Else a model that finds
only the easy people would look better than one that finds all.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from posewire.registry.keypoint_sets import KeypointSet
from posewire.tools.evaluate.annotations import Person, Row
from posewire.tools.evaluate.joints import RIGHT

FOUND: Final = "found"  # share of the people with a prediction
MEAN_OKS: Final = "mean OKS"  # of the people
ALL: Final = "all"  # keypoints together


def similarities(person: Person, row: Row | None, sigmas: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return COCO's exp(-d² / (2 area (2 sigma)²)) of each keypoint, (K,), 0..1; NaN where none is annotated, 0 without a prediction."""
    known = person.visibility > 0
    values = np.zeros(len(sigmas))
    if row is not None:
        points = np.array(row["keypoints"], np.float64).reshape(-1, 3)[:, :2]
        values = np.exp(-((points - person.xy) ** 2).sum(1) / (2 * person.area * (2 * sigmas) ** 2))
    return np.where(known, values, np.nan)


class KeypointSums:
    """Similarities of one model, summed up image by image.

    Args:
        keypoints: of the model.
    """

    def __init__(self, keypoints: KeypointSet) -> None:
        self._count = len(keypoints.names)
        self._rows: list[npt.NDArray[np.float64]] = []

    @staticmethod
    def names(keypoints: KeypointSet) -> list[str]:
        """Return the names of the figures: of people, then the similarity and the share that is right of `ALL` and of each keypoint."""
        of_keypoints = [f"{kind} {name}" for kind in ("oks", "right") for name in (ALL, *keypoints.names)]
        return [FOUND, MEAN_OKS, *of_keypoints]

    def add(self, similar: Sequence[npt.NDArray[np.float64]], found: int) -> None:
        """Add an image.

        Args:
            similar: of `similarities`, for each of its people.
            found: number of those with a prediction.
        """
        values = np.array(similar).reshape(-1, self._count)
        known = np.isfinite(values)
        oks = np.nansum(values, 1) / np.maximum(known.sum(1), 1)
        parts = (known.sum(0), np.nansum(values, 0), (values >= RIGHT).sum(0))
        self._rows.append(np.concatenate([[len(values), found, oks.sum()], *parts]))

    @property
    def counts(self) -> list[int]:
        """Number of annotated keypoints: all, then of each name."""
        each = np.sum(self._rows, axis=0)[3 : 3 + self._count].astype(int)
        return [int(each.sum()), *each.tolist()]

    def __call__(self, counts: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Return the figures (B, F), 0..1, in the order of `names`; NaN where nobody, or no such keypoint, is annotated.

        Args:
            counts: (B, I) how often each of the I images counts, for B resamples.
        """
        sums = counts.astype(np.float64) @ np.array(self._rows)
        of_people, known, similar, right = np.split(sums, [3, 3 + self._count, 3 + 2 * self._count], axis=1)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
            shares = [_with_all(part) / _with_all(known) for part in (similar, right)]
            return np.concatenate([of_people[:, 1:] / of_people[:, :1], *shares], axis=1)


def _with_all(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (B, 1 + K): the sums over the K keypoints, then the values of each."""
    return np.concatenate([values.sum(1, keepdims=True), values], axis=1)
