"""Everything that an evaluation says, as numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from posewire.registry.score_curve import ScoreCurve
from posewire.tools.evaluate.annotations import Annotations, Person, Row
from posewire.tools.evaluate.joints import JOINT_NAMES, Found, Joints, find_people
from posewire.tools.evaluate.predicting import Boxes
from posewire.tools.evaluate.reliability import Reliability

Figures = Mapping[str, float]

_MEDIUM, _LARGE = 32.0**2, 96.0**2  # square pixels, COCO's

_SIZES: Final[Mapping[str, Callable[[Person], bool]]] = {
    "small": lambda person: person.area < _MEDIUM,
    "medium": lambda person: _MEDIUM <= person.area <= _LARGE,
    "large": lambda person: person.area > _LARGE,
}


def _seen(person: Person) -> float:
    """The share of all 17 joints that can be seen."""
    return float((person.visibility == 2).mean())


_OCCLUSION: Final[Mapping[str, Callable[[Person], bool]]] = {
    "under a third seen": lambda person: _seen(person) < 1 / 3,
    "a third to two": lambda person: 1 / 3 <= _seen(person) < 2 / 3,
    "two thirds and more": lambda person: _seen(person) >= 2 / 3,
}


@dataclass(frozen=True, slots=True)
class Run:
    """COCO's figures of one way to run."""

    boxes_from: Boxes
    flip_test: bool | None  # None: as the service is set
    keypoints: Figures  # AP and AR by OKS, 0..1
    boxes: Figures | None  # AP and AR of the people's boxes; None: they were given


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """One run in detail."""

    run: Run
    pictures: int
    people: int
    found: float  # share of the people in whose box somebody was found
    joints: Mapping[str, Figures]  # by name, and "all", "seen", "hidden"
    sizes: Mapping[str, Figures]
    occlusion: Mapping[str, Figures]
    reliability: Reliability
    calibrated: tuple[ScoreCurve, Reliability] | None  # by a curve that was fitted on other pictures
    boxes: Reliability | None  # of the detector's scores: a box is right at an IoU of 0.5 or more; None: boxes were given
    everyone: Sequence[Found]

    def as_json(self) -> dict[str, Any]:
        """All of it but the people."""
        told: dict[str, Any] = {"pictures": self.pictures, "people": self.people} | run_as_json(self.run)
        told |= {"found": self.found, "joints": self.joints, "sizes": self.sizes, "occlusion": self.occlusion}
        told["calibration"] = asdict(self.reliability)
        if self.boxes:
            told["boxes_calibration"] = asdict(self.boxes)
        if self.calibrated:
            curve, after = self.calibrated
            told["fitted_calibration"] = asdict(curve) | asdict(after)
        return told


def run_as_json(run: Run) -> dict[str, Any]:
    """A run; `boxes` only where they were looked for."""
    return {key: value for key, value in asdict(run).items() if not (key == "boxes" and value is None)}


def score_run(data: Annotations, rows: Sequence[Row], boxes: Boxes, flip_test: bool | None) -> Run:
    """COCO's figures of the rows of a run."""
    return Run(boxes, flip_test, data.keypoint_ap(rows), data.box_ap(rows) if boxes == "detector" else None)


def summarise(data: Annotations, rows: Sequence[Row], run: Run, curve: ScoreCurve | None = None) -> Summary:
    """All figures of a run.

    Args:
        data: the set.
        rows: what was found on all its pictures.
        run: COCO's figures of these rows.
        curve: for the scores, fitted on other pictures; None: there is none.
    """
    everyone = find_people(data.pictures, rows)
    joints = Joints.of(everyone)
    by_joint = {name: joints.where(joints.joint == i).figures() for i, name in enumerate(JOINT_NAMES)}
    parts = {"all": joints, "seen": joints.where(joints.seen), "hidden": joints.where(~joints.seen)}
    return Summary(
        run,
        len(data.pictures),
        len(everyone),
        sum(found.row is not None for found in everyone) / len(everyone),
        by_joint | {name: part.figures() for name, part in parts.items()},
        {name: _group(data, rows, everyone, of) for name, of in _SIZES.items()},
        {name: _group(data, rows, everyone, of) for name, of in _OCCLUSION.items()},
        Reliability.of(joints.score, joints.right),
        (curve, Reliability.of(curve(joints.score), joints.right)) if curve else None,
        Reliability.of(*data.judged_boxes(rows)) if run.boxes_from == "detector" else None,
        everyone,
    )


def _group(data: Annotations, rows: Sequence[Row], everyone: Sequence[Found], belongs: Callable[[Person], bool]) -> Figures:
    """Figures of some of the people; what was found of the others is left out."""
    inside = [found for found in everyone if belongs(found.person)]
    if not inside:
        return {"people": 0}
    ids = {found.person.annotation_id for found in inside}
    others = {id(found.row) for found in everyone if found.row and found.person.annotation_id not in ids}
    ap = data.keypoint_ap([row for row in rows if id(row) not in others], ids.__contains__)["AP"]
    return {"people": len(inside), "AP": ap, "mean OKS": float(np.mean([found.oks for found in inside]))} | Joints.of(inside).figures()
