"""The figures of an evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from posewire.registry.score_curve import ScoreCurve
from posewire.tools.evaluate.annotations import Annotations, Person, Row
from posewire.tools.evaluate.joints import Found, Joints, find_people
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
    """Return the share of all joints that are visible."""
    return float((person.visibility == 2).mean())


_OCCLUSION: Final[Mapping[str, Callable[[Person], bool]]] = {
    "under a third seen": lambda person: _seen(person) < 1 / 3,
    "a third to two": lambda person: 1 / 3 <= _seen(person) < 2 / 3,
    "two thirds and more": lambda person: _seen(person) >= 2 / 3,
}


@dataclass(frozen=True, slots=True)
class Run:
    """COCO's figures of one run."""

    boxes_from: Boxes
    flip_test: bool | None  # None: by the settings of the service
    keypoints: Figures  # AP and AR by OKS, 0..1
    boxes: Figures | None  # AP and AR of the people's boxes; None: annotated boxes


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """One run in detail."""

    run: Run
    images: int
    people: int
    found: float  # share of the people with a prediction
    joints: Mapping[str, Figures]  # by name, and "all", "seen", "hidden"
    sizes: Mapping[str, Figures]
    occlusion: Mapping[str, Figures]
    reliability: Reliability
    calibrated: tuple[ScoreCurve, Reliability] | None  # by a curve that was fitted on other images
    boxes: Reliability | None  # of the detector's scores: a box is right at an IoU of 0.5 or more; None: annotated boxes
    everyone: Sequence[Found]

    def as_json(self) -> dict[str, Any]:
        """Return all figures, without the people."""
        figures: dict[str, Any] = {"images": self.images, "people": self.people} | run_as_json(self.run)
        figures |= {"found": self.found, "joints": self.joints, "sizes": self.sizes, "occlusion": self.occlusion}
        figures["calibration"] = asdict(self.reliability)
        if self.boxes:
            figures["boxes_calibration"] = asdict(self.boxes)
        if self.calibrated:
            curve, after = self.calibrated
            figures["fitted_calibration"] = asdict(curve) | asdict(after)
        return figures


def run_as_json(run: Run) -> dict[str, Any]:
    """Return the figures of a run; `boxes` only if the detector found them."""
    return {key: value for key, value in asdict(run).items() if not (key == "boxes" and value is None)}


def score_run(data: Annotations, rows: Sequence[Row], boxes: Boxes, flip_test: bool | None) -> Run:
    """Return COCO's figures of the rows of a run."""
    return Run(boxes, flip_test, data.keypoint_ap(rows), data.box_ap(rows) if boxes == "detector" else None)


def summarise(data: Annotations, rows: Sequence[Row], run: Run, curve: ScoreCurve | None = None) -> Summary:
    """Return all figures of a run.

    Args:
        data: the set.
        rows: the predictions for all its images.
        run: COCO's figures of these rows.
        curve: for the scores, fitted on other images; None: there is none.
    """
    everyone = find_people(data.images, rows)
    joints = Joints.of(everyone)
    by_joint = {name: joints.where(joints.joint == i).figures() for i, name in enumerate(data.keypoints.names)}
    parts = {"all": joints, "seen": joints.where(joints.seen), "hidden": joints.where(~joints.seen)}
    return Summary(
        run,
        len(data.images),
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
    """Return the figures of some of the people; the predictions for the others are left out."""
    inside = [found for found in everyone if belongs(found.person)]
    if not inside:
        return {"people": 0}
    ids = {found.person.annotation_id for found in inside}
    others = {id(found.row) for found in everyone if found.row and found.person.annotation_id not in ids}
    ap = data.keypoint_ap([row for row in rows if id(row) not in others], ids.__contains__)["AP"]
    return {"people": len(inside), "AP": ap, "mean OKS": float(np.mean([found.oks for found in inside]))} | Joints.of(inside).figures()
