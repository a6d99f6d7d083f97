"""`posewire evaluate`: COCO AP, and what went wrong where, of the engine here or of a service elsewhere."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posewire.cli.progress import progress
from posewire.config import Settings
from posewire.errors import PosewireError
from posewire.files import write_atomically
from posewire.registry.score_curve import ScoreCurve
from posewire.telemetry.logs import configure_logging
from posewire.tools.calibration import Limits
from posewire.tools.evaluate.annotations import Annotations, Row, other_set
from posewire.tools.evaluate.joints import Joints, find_people
from posewire.tools.evaluate.page import page
from posewire.tools.evaluate.predicting import Boxes, Source, predict_all
from posewire.tools.evaluate.reliability import fit
from posewire.tools.evaluate.summary import Run, Summary, run_as_json, score_run, summarise
from posewire.tools.evaluate.text import lines
from posewire.tools.evaluate.worst import worst


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What the command line asked for."""

    images: Path  # folder of the pictures
    annotations: Path  # COCO's JSON
    boxes: Boxes  # "gt" gives the annotated boxes to the pose model; "detector" lets it find them, and scores them too
    url: str | None = None  # of a running service; None: the engine is loaded here
    every: bool = False  # also the other boxes and, here, the other flip test
    html: Path | None = None  # where to write the page
    worst: int = 12  # pictures on it
    fit_images: Path | None = None  # folder of other pictures, to fit a curve for the scores on
    fit_annotations: Path | None = None
    as_json: bool = False  # print JSON and nothing else


def evaluate(options: EvaluateOptions, settings: Settings) -> int:
    """Print the figures, and write the page.

    Raises:
        PosewireError: the data cannot be read, a picture fails, the service does not answer, or the page cannot be written.
    """
    configure_logging(settings.log_level)
    data = Annotations(options.annotations, options.images)
    other = other_set(data, options.fit_images, options.fit_annotations, "fit")
    if options.html is not None and not options.html.parent.is_dir():
        raise PosewireError(f"{options.html.parent} is not a folder: make it, or give another --html")
    curve = _curve(other, settings, options) if other else None
    chosen, *others = _runs(data, options, settings)
    summary = summarise(data, *chosen, curve)
    runs = [run for _, run in (chosen, *others)]
    if options.html is not None:
        _write(options.html, summary, runs, options, settings)
    if options.as_json:
        print(json.dumps(summary.as_json() | {"runs": [run_as_json(run) for run in runs]}, indent=2))
    else:
        for line in lines(summary, runs):
            print(line)
    return 0


def _runs(data: Annotations, options: EvaluateOptions, settings: Settings) -> Iterator[tuple[list[Row], Run]]:
    """Rows and figures of every run, the one that was asked for first."""
    kinds: list[Boxes] = [options.boxes]
    if options.every:
        kinds += ["detector" if options.boxes == "gt" else "gt"]
    flips = [settings.flip_test] + ([not settings.flip_test] if options.every and not options.url else [])
    for flip in flips:
        source = Source(settings.model_copy(update={"flip_test": flip}), options.url)
        with progress(len(data.pictures) * len(kinds), "pictures, flip test" if flip and not options.url else "pictures") as advance:
            answers = predict_all(data.pictures, kinds, source, advance)
        for boxes, rows in zip(kinds, answers, strict=True):
            yield rows, score_run(data, rows, boxes, None if options.url else flip)


def _curve(other: Annotations, settings: Settings, options: EvaluateOptions) -> ScoreCurve:
    with progress(len(other.pictures), "pictures to fit on") as advance:
        [rows] = predict_all(other.pictures, [options.boxes], Source(settings, options.url), advance)
    joints = Joints.of(find_people(other.pictures, rows))
    if len(np.unique(joints.right)) < 2:
        raise PosewireError("no curve can be fitted: of the joints on --fit-images all are right, or all are wrong; give more pictures")
    return fit(joints.score, joints.right)


def _write(path: Path, summary: Summary, runs: Sequence[Run], options: EvaluateOptions, settings: Settings) -> None:
    limits = Limits(settings.max_bytes, settings.max_pixels)
    what = options.url or "Posewire"
    with progress(min(options.worst, summary.pictures), "worst pictures") as advance:
        shown = []
        for one in worst(summary.everyone, options.worst, limits):
            shown.append(one)
            advance()
    write_atomically(path, page(summary, runs, shown, f"{what} on {options.annotations.name}").encode())
