"""A comparison: both models on every image, one image after another, then the intervals and the page."""

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from posewire.config import Settings
from posewire.errors import PosewireError, ServiceError
from posewire.files import write_atomically
from posewire.formats.coco import coco_rows
from posewire.imaging.geometry import xyxy_to_xywh
from posewire.pipeline.tracking.matching import box_iou
from posewire.tools.calibration import Limits, read
from posewire.tools.evaluate.annotations import AnnotatedImage, Annotations, Row
from posewire.tools.evaluate.compare.average_precision import AP_NAMES, AveragePrecision
from posewire.tools.evaluate.compare.bootstrap import RESAMPLES, SEED, differences
from posewire.tools.evaluate.compare.cases import KINDS, Case, WorstCases, draw_cases
from posewire.tools.evaluate.compare.matches import ImageMatches, match
from posewire.tools.evaluate.compare.page import comparison_page
from posewire.tools.evaluate.compare.people import ALL, KeypointSums, similarities
from posewire.tools.evaluate.compare.result import Comparison, Times
from posewire.tools.evaluate.compare.sides import Side, load_sides
from posewire.tools.evaluate.joints import find_people
from posewire.tools.evaluate.page import template
from posewire.tools.evaluate.predicting import Boxes
from posewire.tools.progress import Progress
from posewire.types import FloatArray, Frame, PoseOptions

# What AP is measured with, as by `posewire evaluate`: all candidates of the detector, of which COCO counts the best 20.
_MIN_SCORE: Final = 0.001
_MAX_PEOPLE: Final = 100
_COUNTED: Final = 20

_SAME_BOX = 0.5  # IoU of two predictions for one place


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """The options of `posewire evaluate --compare`."""

    names: tuple[str, str]  # of both sides: pairs, models, or ONNX files
    images: Path  # folder of the images
    annotations: Path  # COCO's JSON
    boxes: Boxes  # "gt" gives the annotated boxes to the pose models; "detector" lets each side find the people
    report: Path | None = None  # target of the page
    worst: int = 12  # cases of each kind on the page


class _Record:
    """The result of one side: numbers of every image, and no predictions."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.matches: list[ImageMatches] = []
        self.sums = KeypointSums(side.keypoints)
        self.milliseconds: list[float] = []


def compare(options: CompareOptions, settings: Settings, progress: Progress) -> Comparison:
    """Run both sides on all images, compute the figures and the intervals, and write the page if `options.report` names one.

    Args:
        options: of the command.
        settings: of the command; their minimum detection score and number of people hold for the milliseconds, not for AP.
        progress: shows how far each step is.

    Raises:
        PosewireError: the data or a model cannot be used, an image fails, or the page cannot be written.
    """
    if options.report is not None:
        if not options.report.parent.is_dir():
            raise PosewireError(f"{options.report.parent} is not a folder: make it, or give another --report")
        template("comparison.html")  # an extra that is missing is reported before the work, not after it
    sides = load_sides(options.names, options.boxes, settings)
    data = Annotations(options.annotations, options.images, sides[0].keypoints)
    run = _Run(data, sides, options, settings)
    with progress(len(data.images), "images") as advance:
        run.warm_up()
        for image in sorted(data.images, key=lambda image: image.image_id):  # pycocotools' order
            run.add(image)
            advance()
    comparison = run.compare(progress)
    if options.report is not None:
        with progress(sum(len(run.worst.of(kind)) for kind in KINDS), "worst cases") as advance:
            cases = list(draw_cases(run.worst, sides[0].keypoints, run.limits, advance))
        title = f"{options.names[0]} and {options.names[1]} on {options.annotations.name}"
        write_atomically(options.report, comparison_page(comparison, cases, title).encode())
    return comparison


class _Run:
    """Both sides on the images of a set."""

    def __init__(self, data: Annotations, sides: tuple[Side, Side], options: CompareOptions, settings: Settings) -> None:
        self._data, self._options, self._settings = data, options, settings
        self._records = _Record(sides[0]), _Record(sides[1])
        self._sigmas = np.array(data.keypoints.oks_sigmas, np.float64)
        self._order = random.Random(SEED)  # noqa: S311 - no secret
        self.limits = Limits(settings.max_bytes, settings.max_pixels)
        self.worst = WorstCases(options.worst if options.report else 0)

    def warm_up(self) -> None:
        """Run both sides on an image with people: a first run is slower than the others."""
        image = next(image for image in self._data.images if image.people)
        frame = read(image.path, self.limits)
        with _named(image):
            for record in self._records:
                self._timed(record.side, frame, image)

    def add(self, image: AnnotatedImage) -> None:
        """Predict and judge one image, by both sides in a random order."""
        rows: list[list[Row]] = [[], []]
        if image.people or self._options.boxes == "detector":
            with _named(image):
                rows = self._predict(image)
        self._judge(image, rows)

    def _predict(self, image: AnnotatedImage) -> list[list[Row]]:
        frame = read(image.path, self.limits)
        rows: list[list[Row]] = [[], []]
        for index in self._order.sample((0, 1), 2):
            record = self._records[index]
            rows[index], milliseconds = self._timed(record.side, frame, image)
            record.milliseconds.append(milliseconds)
        if self._options.boxes == "detector":
            return [_candidates(record.side, frame, image) for record in self._records]
        return rows

    def compare(self, progress: Progress) -> Comparison:
        """Return the figures of all images that were added, with the intervals of the differences."""
        a, b = self._records
        keypoints, images = self._data.keypoints, len(self._data.images)
        precision_a, precision_b = (AveragePrecision(record.matches) for record in (a, b))
        names = KeypointSums.names(keypoints)
        with progress(2 * RESAMPLES, "resamples") as advance:
            predictions = max(precision_a.predictions, precision_b.predictions)
            ap = differences(precision_a, precision_b, images, predictions, advance)
            of_people = differences(a.sums, b.sums, images, len(names), advance)
        return Comparison(
            self._options.names,
            (a.side.describe(self._options.boxes), b.side.describe(self._options.boxes)),
            self._options.boxes,
            self._settings.flip_test,
            images,
            self._data.people,
            dict(zip(AP_NAMES, ap, strict=True)),
            dict(zip(names, of_people, strict=True)),
            dict(zip((ALL, *keypoints.names), a.sums.counts, strict=True)),
            Times.of(a.milliseconds, b.milliseconds),
        )

    def _timed(self, side: Side, frame: Frame, image: AnnotatedImage) -> tuple[list[Row], float]:
        """Run a side as the service does; return the rows and the milliseconds, without decoding."""
        options = _given(image.boxes_xywh) if self._options.boxes == "gt" else self._settings.pose_options()
        started = time.perf_counter()
        result = side.pipeline.estimate_frame(frame, options)
        return coco_rows(result, image.image_id, 0.0), (time.perf_counter() - started) * 1000

    def _judge(self, image: AnnotatedImage, rows: Sequence[list[Row]]) -> None:
        truth = self._data.truth(image)
        paired, oks, false_rows = [], [], []
        for record, found in zip(self._records, rows, strict=True):
            matches = match(truth, found, self._sigmas.tolist())
            of_people = [one.row for one in find_people([image], found)]
            similar = [similarities(person, row, self._sigmas) for person, row in zip(image.people, of_people, strict=True)]
            record.matches.append(matches)
            record.sums.add(similar, sum(row is not None for row in of_people))
            paired.append(of_people)
            oks.append([float(np.nanmean(values)) for values in similar])
            known = [id(row) for row in of_people]
            false_rows.append([found[i] for i in matches.false_rows if id(found[i]) not in known])
        for person, row_a, row_b, oks_a, oks_b in zip(image.people, *paired, *oks, strict=True):
            self.worst.add_person(Case(image, person, (row_a, row_b), (oks_a, oks_b)))
        for row in false_rows[0]:
            self.worst.add_false(Case(image, None, (row, _same_place(row, rows[1])), None), 0)
        for row in false_rows[1]:
            self.worst.add_false(Case(image, None, (_same_place(row, rows[0]), row), None), 1)


@contextlib.contextmanager
def _named(image: AnnotatedImage) -> Iterator[None]:
    """Raise an error of the pipeline with the name of the image."""
    try:
        yield
    except ServiceError as error:
        raise PosewireError(f"{image.path}: {error.detail}") from None


def _candidates(side: Side, frame: Frame, image: AnnotatedImage) -> list[Row]:
    """Return the predictions that COCO counts, scored as by `posewire evaluate`: the box's score times that of the keypoints.

    Boxes come best first, and keypoints only lower a score: a box below the 20th of the scores so far needs no keypoints.
    """
    found, _ = side.pipeline.detect_people(frame, PoseOptions(_MIN_SCORE, _MAX_PEOPLE))
    boxes, scores = xyxy_to_xywh(found.boxes_xyxy), found.scores.tolist()
    rows: list[Row] = []
    for at in range(0, len(scores), _COUNTED):
        if len(rows) == _COUNTED and scores[at] < rows[-1]["score"]:
            break
        part = side.pipeline.estimate_frame(frame, _given(boxes[at : at + _COUNTED]))
        of_part = zip(coco_rows(part, image.image_id, 0.0), scores[at:], strict=False)
        rows += [row | {"score": row["score"] * score} for row, score in of_part]
        rows = sorted(rows, key=lambda row: -row["score"])[:_COUNTED]
    return rows


def _given(boxes_xywh: FloatArray) -> PoseOptions:
    return PoseOptions(0.0, len(boxes_xywh), boxes_xywh)


def _same_place(row: Row, others: Sequence[Row]) -> Row | None:
    """Return the row whose box overlaps that of `row` most; None: none does at an IoU of 0.5."""
    boxes = np.array([other["bbox"] for other in others], np.float32).reshape(-1, 4)
    overlaps = box_iou(np.array([row["bbox"]], np.float32), boxes)[0]
    best = int(overlaps.argmax()) if len(overlaps) else -1
    return others[best] if best >= 0 and overlaps[best] >= _SAME_BOX else None
