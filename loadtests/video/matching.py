"""Answers against labels: found, missed, and identities that changed (CLEAR MOT, Bernardin 2008)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from posewire.pipeline.tracking.matching import assign, box_iou
from posewire.types import FloatArray, Pose

# Labels are read off a grid and interpolated: a stricter overlap would measure them.
LEAST_IOU = 0.3


@dataclass(slots=True)
class Score:
    """Counts over a video."""

    labelled: int = 0  # people, over all frames
    found: int = 0
    switches: int = 0  # a person's identity is another than where they were found last
    surplus: int = 0  # answered people that are nobody's label

    @property
    def recall(self) -> float:
        """0..1."""
        return self.found / self.labelled


def match(people: Sequence[Pose], labels: Mapping[str, FloatArray], last: Mapping[str, int | None]) -> dict[str, Pose]:
    """The answered person of each labelled one; who was matched before stays matched where the boxes still allow it."""
    names = list(labels)
    boxes = np.array([p.box_xywh for p in people], np.float32).reshape(-1, 4)
    iou = box_iou(np.array([labels[n] for n in names], np.float32).reshape(-1, 4), boxes)
    kept = np.array([[p.track_id is not None and p.track_id == last.get(n) for p in people] for n in names], bool).reshape(iou.shape)
    preferred = np.asarray((iou + (kept & (iou >= LEAST_IOU))) / 2, np.float32)
    pairs = assign(preferred, LEAST_IOU / 2)
    return {names[row]: people[column] for row, column in pairs}


def score(answers: Sequence[Sequence[Pose]], labels: Sequence[Mapping[str, FloatArray]]) -> Score:
    """Count over all frames."""
    total, last = Score(), dict[str, int | None]()
    for people, labelled in zip(answers, labels, strict=True):
        pairs = match(people, labelled, last)
        total.labelled += len(labelled)
        total.found += len(pairs)
        total.surplus += len(people) - len(pairs)
        for name, person in pairs.items():
            total.switches += last.get(name, person.track_id) != person.track_id
            last[name] = person.track_id
    return total
