"""How good a model of a store is on held-out pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewire.commands.progress import progress
from posewire.config import Settings, load_settings
from posewire.evaluation.annotations import Annotations, Row
from posewire.evaluation.predicting import Boxes, Source, predict_all
from posewire.evaluation.summary import Run, Summary, score_run, summarise
from posewire.models.choice import choose
from posewire.models.specs import Task
from posewire.models.store import open_store

_COMMAND = "posewire evaluate --images DIR/images --annotations DIR/person_keypoints.json"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a model's accuracy."""

    metric: str
    value: float
    command: str  # what measures it


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A model's accuracy; the first figure decides whether it is better than another's."""

    figures: tuple[Figure, ...]
    summary: Summary | None  # with ground-truth boxes; None: of a detector

    @property
    def decisive(self) -> float:
        """0..1."""
        return self.figures[0].value

    def as_entries(self, dataset: str) -> list[dict[str, Any]]:
        """As `accuracy` of a manifest."""
        return [{"dataset": dataset, "metric": f.metric, "value": round(f.value, 3), "command": f.command} for f in self.figures]


def settings_of(store: Path, task: Task, name: str, **more: object) -> Settings:
    """Settings that serve a model of a store, as `posewire evaluate` has them."""
    chosen: dict[str, object] = {
        "model_store": store,
        task: name,
        "min_detection_score": 0.02,
        "max_people": 100,
        "max_batch": 1,
        "log_level": "warning",
    }
    chosen["detector_precision"] = "float32"  # the same on every machine
    return load_settings(None, **chosen | more)


def score(store: Path, task: Task, name: str, data: Annotations) -> Scored:
    """Score a model as it is served.

    Raises:
        PosewireError: it cannot be served, or a picture fails.
    """
    if task == "detector":
        [rows] = predict(data, ["detector"], Source(settings_of(store, task, name), poses=False), name)
        boxes = data.box_ap(rows)
        return Scored((_person(boxes, "AP", "float32"), _person(boxes, "AP50", "float32")), None)
    settings = settings_of(store, task, name)
    given, detected = predict(data, ["gt", "detector"], Source(settings), name)
    flip = Source(settings_of(store, task, name, flip_test=True))
    [mirrored] = predict(data, ["gt"], flip, f"{name}, flip test")
    run = score_run(data, given, "gt", flip_test=False)
    detector = _detector(settings)
    figures = (
        _figure(run, "AP", "ground-truth boxes, DARK, no flip test", "--boxes gt"),
        _figure(run, "AP50", "ground-truth boxes, DARK, no flip test", "--boxes gt"),
        _figure(score_run(data, mirrored, "gt", flip_test=True), "AP", "ground-truth boxes, DARK, flip test", "--boxes gt --flip-test"),
        _figure(
            score_run(data, detected, "gt", flip_test=False),
            "AP",
            f"boxes of {detector} in float32, DARK, no flip test",
            "--boxes detector",
        ),
    )
    return Scored(figures, summarise(data, given, run))


def score_int8(store: Path, name: str, data: Annotations) -> Figure:
    """Person AP of a detector's INT8 file.

    Raises:
        PosewireError: this machine would not serve it, or a picture fails.
    """
    source = Source(settings_of(store, "detector", name, detector_precision="int8"), poses=False)
    [rows] = predict(data, ["detector"], source, f"{name}, INT8")
    return _person(data.box_ap(rows), "AP", "int8")


def predict(data: Annotations, kinds: Sequence[Boxes], source: Source, what: str) -> list[list[Row]]:
    """Rows for each of the kinds of boxes, with a progress bar."""
    with progress(len(data.pictures) * len(kinds), what) as advance:
        return predict_all(data.pictures, kinds, source, advance)


def _figure(run: Run, name: str, how: str, options: str) -> Figure:
    precision = "POSEWIRE_DETECTOR_PRECISION=float32 " if "float32" in how else ""
    return Figure(f"keypoint {name}, {how}", run.keypoints[name], f"{precision}{_COMMAND} {options}")


def _person(boxes: Mapping[str, float], name: str, precision: str) -> Figure:
    return Figure(
        f"person {name} (boxes), {precision}", boxes[name], f"POSEWIRE_DETECTOR_PRECISION={precision} {_COMMAND} --boxes detector"
    )


def _detector(settings: Settings) -> str:
    return choose(settings, open_store(settings).manifest).detector.name
