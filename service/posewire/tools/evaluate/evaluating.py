"""An evaluation: predictions of all images, their figures, and the page with the worst images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posewire.config import Settings
from posewire.errors import PosewireError
from posewire.files import write_atomically
from posewire.registry.choice import choose
from posewire.registry.keypoint_sets import KeypointSet, keypoint_set_of
from posewire.registry.score_curve import ScoreCurve
from posewire.registry.store import open_store
from posewire.tools.calibration import Limits
from posewire.tools.evaluate.annotations import Annotations, Row, other_set
from posewire.tools.evaluate.joints import Joints, find_people
from posewire.tools.evaluate.page import page
from posewire.tools.evaluate.predicting import Boxes, Source, predict_all, served_keypoints
from posewire.tools.evaluate.reliability import fit
from posewire.tools.evaluate.summary import Run, Summary, run_as_json, score_run, summarise
from posewire.tools.evaluate.worst import worst
from posewire.tools.progress import Progress


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """The options of `posewire evaluate`."""

    images: Path  # folder of the images
    annotations: Path  # COCO's JSON
    boxes: Boxes  # "gt" gives the annotated boxes to the pose model; "detector" lets it find them, and scores them too
    url: str | None = None  # of a running service; None: the engine is loaded here
    every: bool = False  # also the other boxes and, here, the other flip test
    html: Path | None = None  # target of the page
    worst: int = 12  # images on the page
    fit_images: Path | None = None  # folder of other images, to fit a curve for the scores on
    fit_annotations: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The figures of all runs."""

    summary: Summary  # of the first run, in detail
    runs: tuple[Run, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the figures without the people."""
        return self.summary.as_json() | {"runs": [run_as_json(run) for run in self.runs]}


def evaluate(options: EvaluateOptions, settings: Settings, progress: Progress) -> Evaluation:
    """Predict all images, score the runs, and write the page if `options.html` names one.

    Raises:
        PosewireError: the data cannot be read, an image fails, the service does not answer, or the page cannot be written.
    """
    data = Annotations(options.annotations, options.images, _keypoints(options, settings))
    other = other_set(data, options.fit_images, options.fit_annotations, "fit")
    if options.html is not None and not options.html.parent.is_dir():
        raise PosewireError(f"{options.html.parent} is not a folder: make it, or give another --html")
    curve = _curve(other, settings, options, progress) if other else None
    first, *others = _runs(data, options, settings, progress)
    evaluation = Evaluation(summarise(data, *first, curve), tuple(run for _, run in (first, *others)))
    if options.html is not None:
        _write_page(options.html, evaluation, data.keypoints, options, settings, progress)
    return evaluation


def _keypoints(options: EvaluateOptions, settings: Settings) -> KeypointSet:
    """Return the keypoint set of the pose model that is evaluated.

    Raises:
        PosewireError: the service does not answer, or has a keypoint set that is not known here.
    """
    if options.url is None:
        return choose(settings, open_store(settings).manifest).pose.keypoints
    keypoints = keypoint_set_of(served_keypoints(options.url))
    if not keypoints.name:
        raise PosewireError(
            f"{options.url} has a keypoint set of its own, whose sigmas are not known here; evaluate its model without --url"
        )
    return keypoints


def _runs(data: Annotations, options: EvaluateOptions, settings: Settings, progress: Progress) -> Iterator[tuple[list[Row], Run]]:
    """Yield the rows and figures of every run; the run of the options is the first."""
    kinds: list[Boxes] = [options.boxes]
    if options.every:
        kinds += ["detector" if options.boxes == "gt" else "gt"]
    flips = [settings.flip_test] + ([not settings.flip_test] if options.every and not options.url else [])
    for flip in flips:
        source = Source(settings.model_copy(update={"flip_test": flip}), options.url)
        with progress(len(data.images) * len(kinds), "images, flip test" if flip and not options.url else "images") as advance:
            answers = predict_all(data.images, kinds, source, advance)
        for boxes, rows in zip(kinds, answers, strict=True):
            yield rows, score_run(data, rows, boxes, None if options.url else flip)


def _curve(other: Annotations, settings: Settings, options: EvaluateOptions, progress: Progress) -> ScoreCurve:
    with progress(len(other.images), "images to fit on") as advance:
        [rows] = predict_all(other.images, [options.boxes], Source(settings, options.url), advance)
    joints = Joints.of(find_people(other.images, rows))
    if len(np.unique(joints.right)) < 2:
        raise PosewireError("no curve can be fitted: of the joints on --fit-images all are right, or all are wrong; give more images")
    return fit(joints.score, joints.right)


def _write_page(
    path: Path, evaluation: Evaluation, keypoints: KeypointSet, options: EvaluateOptions, settings: Settings, progress: Progress
) -> None:
    limits = Limits(settings.max_bytes, settings.max_pixels)
    summary = evaluation.summary
    with progress(min(options.worst, summary.images), "worst images") as advance:
        shown = []
        for image in worst(summary.everyone, keypoints, options.worst, limits):
            shown.append(image)
            advance()
    title = f"{options.url or 'Posewire'} on {options.annotations.name}"
    write_atomically(path, page(summary, evaluation.runs, shown, title).encode())
