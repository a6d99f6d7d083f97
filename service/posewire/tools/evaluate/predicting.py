"""Predictions for every image of a set, by the engine here or by a running service."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import httpx
import numpy as np

from posewire.config import Settings
from posewire.engine.engine import Engine, load_engine
from posewire.errors import PosewireError, ServiceError
from posewire.files import read_plain
from posewire.formats.coco import coco_rows
from posewire.imaging.decode import sniff
from posewire.imaging.geometry import xyxy_to_xywh
from posewire.telemetry.metrics import Metrics
from posewire.tools.calibration import Limits, read
from posewire.tools.evaluate.annotations import AnnotatedImage, Row
from posewire.types import SEEN_SCORE, FloatArray, Frame, PoseOptions

Boxes: TypeAlias = Literal["gt", "detector"]

# Takes an image and the kind of boxes; returns the rows without their image_id.
_Predict: TypeAlias = Callable[[AnnotatedImage, Boxes], Awaitable[list[Row]]]

_CONCURRENCY = 4


@dataclass(frozen=True, slots=True)
class Source:
    """The engine or service that is evaluated."""

    settings: Settings  # of the engine, and the minimum detection score
    url: str | None = None  # of a running service; None: the engine is loaded here
    poses: bool = True  # False: only boxes of the detector


def predict_all(images: Sequence[AnnotatedImage], kinds: Sequence[Boxes], source: Source, advance: Callable[[], None]) -> list[list[Row]]:
    """Return the COCO results rows of all images, with `image_id` and `box_score`: a list for each kind of boxes.

    Args:
        images: of the set.
        kinds: "gt": boxes of the annotations, images without people are skipped; "detector": boxes of the detector.
        source: the engine or service.
        advance: called after every image of every kind.

    Raises:
        PosewireError: an image fails, the service does not answer, or the pose model has another number of keypoints than
            the annotations.
    """
    return asyncio.run(_predict_all(images, kinds, source, advance))


def served_keypoints(url: str) -> tuple[str, ...]:
    """Return the names of the keypoints of a running service's pose model.

    Raises:
        PosewireError: the service does not answer.
    """
    try:
        answer = httpx.get(f"{url.rstrip('/')}/v1/models", timeout=60)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PosewireError(f"{url} does not answer: {error or type(error).__name__}") from None
    if answer.status_code != 200:
        raise PosewireError(f"{url} answered {answer.status_code}: {answer.text[:300]}")
    return next(tuple(model["keypoints"]) for model in answer.json()["models"] if model["keypoints"] is not None)


async def _predict_all(
    images: Sequence[AnnotatedImage], kinds: Sequence[Boxes], source: Source, advance: Callable[[], None]
) -> list[list[Row]]:
    slots = asyncio.Semaphore(_CONCURRENCY)
    annotated = next(len(person.visibility) for image in images for person in image.people)

    async def one(predict: _Predict, boxes: Boxes, image: AnnotatedImage) -> list[Row]:
        async with slots:
            found = await predict(image, boxes) if image.people or boxes == "detector" else []
        if any(len(row["keypoints"]) != 3 * annotated for row in found if "keypoints" in row):
            raise PosewireError(f"the pose model gives {len(found[0]['keypoints']) // 3} keypoints; the annotations have {annotated}")
        advance()
        return [row | {"image_id": image.image_id} for row in found]

    async with _over_http(source) if source.url else _in_process(source) as predict:
        answers = [await asyncio.gather(*(one(predict, boxes, image) for image in images)) for boxes in kinds]
    return [[row for rows in answer for row in rows] for answer in answers]


@asynccontextmanager
async def _in_process(source: Source) -> AsyncIterator[_Predict]:
    settings = source.settings
    engine = load_engine(settings, Metrics())
    limits = Limits(settings.max_bytes, settings.max_pixels)
    await engine.start()

    async def predict(image: AnnotatedImage, boxes: Boxes) -> list[Row]:
        frame = await asyncio.to_thread(read, image.path, limits)
        options = settings.pose_options()
        try:
            if boxes == "gt":
                given = image.boxes_xywh
                return await _poses(engine, frame, options, given, np.ones(len(given), np.float32))
            found, _ = await engine.detect(frame, options)
            found_xywh = xyxy_to_xywh(found.boxes_xyxy)
            if not source.poses:
                return [{"bbox": b.tolist(), "box_score": float(s)} for b, s in zip(found_xywh, found.scores, strict=True)]
            return await _poses(engine, frame, options, found_xywh, found.scores)
        except ServiceError as error:
            raise PosewireError(f"{image.path}: {error.detail}") from None

    try:
        yield predict
    finally:
        await engine.close()


async def _poses(engine: Engine, frame: Frame, options: PoseOptions, boxes_xywh: FloatArray, scores: FloatArray) -> list[Row]:
    """Return one row per box; its score is the box's times that of the keypoints, as when serving."""
    if not len(boxes_xywh):
        return []
    result = await engine.estimate_frame(frame, replace(options, boxes_xywh=boxes_xywh, max_people=len(boxes_xywh)))
    rows = coco_rows(result, 0, 0.0)
    return [row | {"score": row["score"] * s, "box_score": s} for row, s in zip(rows, map(float, scores), strict=True)]


@asynccontextmanager
async def _over_http(source: Source) -> AsyncIterator[_Predict]:
    query: dict[str, str] = {"format": "coco", "min_detection_score": str(source.settings.min_detection_score)}
    async with httpx.AsyncClient(base_url=source.url or "", timeout=60) as client:

        async def predict(image: AnnotatedImage, boxes: Boxes) -> list[Row]:
            data = read_plain(image.path, source.settings.max_bytes)
            parameters = query | ({"boxes": json.dumps(image.boxes_xywh.tolist())} if boxes == "gt" else {})
            try:
                answer = await client.post("/v1/pose", params=parameters, content=data, headers={"Content-Type": sniff(data) or ""})
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise PosewireError(f"{source.url} does not answer: {error or type(error).__name__}") from None
            if answer.status_code != 200:
                raise PosewireError(f"{image.path}: {source.url} answered {answer.status_code}: {answer.text[:300]}")
            rows: list[Row] = answer.json()
            return [row | {"box_score": 1.0 if boxes == "gt" else _box_score(row)} for row in rows]

        yield predict


def _box_score(row: Row) -> float:
    """Return the detector's score of a person, from the service's score: its product with the mean of the scores above 0.2."""
    counted = [score for score in row["keypoints"][2::3] if score > SEEN_SCORE]
    return float(row["score"]) * len(counted) / sum(counted) if counted else 0.0
