"""Annotated joints compared with the predicted ones."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from posewire.pipeline.tracking.matching import assign, box_iou
from posewire.tools.evaluate.annotations import AnnotatedImage, Person, Row
from posewire.types import FloatArray

# A joint is right if COCO's similarity at the person's scale is at least this: within 2.35 of the annotators' spread.
RIGHT: Final = 0.5

# The minimum IoU of two boxes of one person.
_SAME_BOX = 0.5

_SEEN = 2.0  # COCO's mark of a joint that can be seen


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """An annotated person and the prediction for them."""

    image: AnnotatedImage
    person: Person
    row: Row | None  # None: no prediction matches their box

    @property
    def oks(self) -> float:
        """Mean similarity of their annotated joints, 0..1; 0 if there is no prediction."""
        return float(_similarity(self.person, self.row).mean()) if self.row else 0.0


def find_people(images: Sequence[AnnotatedImage], rows: Sequence[Row]) -> list[Found]:
    """Match every annotated person with a row: the assignment with the most overlap, at an IoU of at least 0.5."""
    rows_of = defaultdict(list)
    for row in rows:
        rows_of[row["image_id"]].append(row)
    found = []
    for image in images:
        here = rows_of[image.image_id]
        boxes = np.array([row["bbox"] for row in here], np.float32).reshape(-1, 4)
        pairs = dict(assign(box_iou(image.boxes_xywh, boxes), _SAME_BOX))
        found += [Found(image, person, here[pairs[i]] if i in pairs else None) for i, person in enumerate(image.people)]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Joints:
    """The annotated joints of people with a prediction, as arrays of equal length."""

    joint: npt.NDArray[np.intp]  # index of the name
    error: FloatArray  # distance from the annotation, in units of the square root of the person's area
    similarity: FloatArray  # 0..1: COCO's similarity of this joint alone
    score: FloatArray  # 0..1, of the network
    seen: npt.NDArray[np.bool_]  # False: annotated, but hidden
    area: FloatArray  # of the person, square pixels

    @classmethod
    def of(cls, people: Sequence[Found]) -> Self:
        """Return the joints of the people with a prediction."""
        parts = [_joints(found.person, found.row) for found in people if found.row]
        empty = (np.empty(0, np.intp), *(np.empty(0, np.float32) for _ in range(3)), np.empty(0, np.bool_), np.empty(0, np.float32))
        return cls(*(np.concatenate(arrays) for arrays in zip(empty, *parts, strict=True)))

    def where(self, mask: npt.NDArray[np.bool_]) -> "Joints":
        """Return the joints of a mask."""
        return Joints(*(getattr(self, field.name)[mask] for field in fields(self)))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """True for each joint that is close enough to its annotation."""
        return self.similarity >= RIGHT

    def figures(self) -> dict[str, float]:
        """Return the number and the means: error, similarity (`oks`), share that is `right`, score; no means without joints."""
        if not len(self.joint):
            return {"joints": 0}
        means: Mapping[str, npt.NDArray[np.generic]] = {
            "error": self.error,
            "oks": self.similarity,
            "right": self.right,
            "score": self.score,
        }
        return {"joints": len(self.joint)} | {name: float(values.mean(dtype=np.float64)) for name, values in means.items()}


def _joints(person: Person, row: Row) -> tuple[npt.NDArray[np.generic], ...]:
    known = person.visibility > 0
    points = np.array(row["keypoints"], np.float32).reshape(-1, 3)
    count = int(known.sum())
    error = np.sqrt(_squared(person, points) / np.float32(person.area))
    area = np.full(count, person.area, np.float32)
    return np.flatnonzero(known), error, _similarity(person, row), points[known, 2], person.visibility[known] == _SEEN, area


def _similarity(person: Person, row: Row) -> FloatArray:
    """Return COCO's exp(-d² / (2 area (2 sigma)²)) of each annotated joint."""
    points = np.array(row["keypoints"], np.float32).reshape(-1, 3)
    variances = (2 * person.oks_sigmas[person.visibility > 0]) ** 2
    return np.asarray(np.exp(-_squared(person, points) / (2 * np.float32(person.area) * variances)), np.float32)


def _squared(person: Person, points: FloatArray) -> FloatArray:
    """Return the squared distances of the annotated joints, square pixels."""
    known = person.visibility > 0
    return np.asarray(((points[known, :2] - person.xy[known]) ** 2).sum(1), np.float32)
