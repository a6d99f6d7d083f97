"""How good a model of a store is on held-out images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewire.cli.progress import progress
from posewire.config import Settings, load_settings
from posewire.registry.choice import choose
from posewire.registry.specs import Task
from posewire.registry.store import open_store
from posewire.tools.evaluate.annotations import Annotations, Row
from posewire.tools.evaluate.predicting import Boxes, Source, predict_all
from posewire.tools.evaluate.reliability import Reliability
from posewire.tools.evaluate.summary import Run, Summary, score_run, summarise

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
    reliability: Reliability  # of keypoints' scores, or of a detector's

    @property
    def decisive(self) -> float:
        """0..1."""
        return self.figures[0].value

    def as_entries(self, dataset: str) -> list[dict[str, Any]]:
        """As `accuracy` of a manifest."""
        return [{"dataset": dataset, "metric": f.metric, "value": round(f.value, 3), "command": f.command} for f in self.figures]


def settings_of(store: Path, task: Task, name: str, **more: object) -> Settings:
    """Settings that serve a model of a store, as `posewire evaluate` has them."""
    chosen = {"model_store": store, task: name, "min_detection_score": 0.001, "max_people": 100, "max_batch": 1, "log_level": "warning"}
    return load_settings(None, **chosen, **more)


def score(store: Path, task: Task, name: str, data: Annotations) -> Scored:
    """Score a model as it is served.

    Raises:
        PosewireError: it cannot be served, or an image fails.
    """
    if task == "detector":
        [rows] = predict(data, ["detector"], Source(settings_of(store, task, name), poses=False), name)
        boxes = data.box_ap(rows)
        how = f"{_COMMAND} --boxes detector"
        figures = Figure("person AP (boxes)", boxes["AP"], how), Figure("person AP50 (boxes)", boxes["AP50"], how)
        return Scored(figures, None, Reliability.of(*data.judged_boxes(rows)))
    settings = settings_of(store, task, name)
    given, detected = predict(data, ["gt", "detector"], Source(settings), name)
    flip = Source(settings_of(store, task, name, flip_test=True))
    [mirrored] = predict(data, ["gt"], flip, f"{name}, flip test")
    run = score_run(data, given, "gt", flip_test=False)
    detector = _detector(settings)
    keypoints = (
        _figure(run, "AP", "ground-truth boxes, DARK, no flip test", "--boxes gt"),
        _figure(run, "AP50", "ground-truth boxes, DARK, no flip test", "--boxes gt"),
        _figure(score_run(data, mirrored, "gt", flip_test=True), "AP", "ground-truth boxes, DARK, flip test", "--boxes gt --flip-test"),
        _figure(score_run(data, detected, "gt", flip_test=False), "AP", f"boxes of {detector}, DARK, no flip test", "--boxes detector"),
    )
    summary = summarise(data, given, run)
    return Scored(keypoints, summary, summary.reliability)


def predict(data: Annotations, kinds: Sequence[Boxes], source: Source, what: str) -> list[list[Row]]:
    """Rows for each of the kinds of boxes, with a progress bar."""
    with progress(len(data.images) * len(kinds), what) as advance:
        return predict_all(data.images, kinds, source, advance)


def _figure(run: Run, name: str, how: str, options: str) -> Figure:
    return Figure(f"keypoint {name}, {how}", run.keypoints[name], f"{_COMMAND} {options}")


def _detector(settings: Settings) -> str:
    return choose(settings, open_store(settings).manifest).detector.name
