"""`posewire evaluate`: COCO AP of the engine here or of a service elsewhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from posewire.commands.progress import progress
from posewire.config import Settings
from posewire.errors import PosewireError, ServiceError
from posewire.evaluation import Annotations, Picture, Predict, Row
from posewire.inference.engine import load_engine
from posewire.schemas import coco_rows
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics
from posewire.types import FloatArray
from posewire.vision.decode import sniff

_AT_ONCE = 4


def evaluate(images: Path, annotations: Path, boxes: str, url: str | None, settings: Settings, *, as_json: bool) -> int:
    """Print the average precision.

    Args:
        images: folder of the pictures.
        annotations: COCO's JSON.
        boxes: "gt" gives the annotated boxes to the pose model; "detector" lets it find them, and scores them too.
        url: of a running service; None: the engine is loaded here.
        settings: of the engine.
        as_json: print JSON and nothing else.

    Raises:
        PosewireError: the data cannot be read, a picture fails, or the service does not answer.
    """
    configure_logging(settings.log_level)
    data = Annotations(annotations, images)
    rows = asyncio.run(_predict_all(data.pictures, boxes, url, settings))
    scores = {"keypoints": data.keypoint_ap(rows)}
    if boxes == "detector":
        scores["boxes"] = data.box_ap(rows)
    if as_json:
        people = sum(len(p.boxes_xywh) for p in data.pictures)
        print(json.dumps({"pictures": len(data.pictures), "people": people, "boxes_from": boxes, **scores}, indent=2))
    else:
        for kind, values in scores.items():
            print(f"{kind:<9}  " + "  ".join(f"{name} {value:.3f}" for name, value in values.items()))
    return 0


async def _predict_all(pictures: list[Picture], boxes: str, url: str | None, settings: Settings) -> list[Row]:
    places = asyncio.Semaphore(_AT_ONCE)
    with progress(len(pictures), "pictures") as advance:

        async def one(predict: Predict, picture: Picture) -> list[Row]:
            if boxes == "gt" and not len(picture.boxes_xywh):
                found: list[Row] = []
            else:
                async with places:
                    found = list(await predict(picture.path.read_bytes(), picture.boxes_xywh if boxes == "gt" else None))
            advance()
            return [row | {"image_id": picture.image_id} for row in found]

        async with _over_http(url, settings) if url else _in_process(settings) as predict:
            answers = await asyncio.gather(*(one(predict, picture) for picture in pictures))
    return [row for rows in answers for row in rows]


@asynccontextmanager
async def _in_process(settings: Settings) -> AsyncIterator[Predict]:
    engine = load_engine(settings, Metrics())
    await engine.start()

    async def predict(data: bytes, boxes: FloatArray | None) -> list[Row]:
        options = settings.pose_options(boxes_xywh=boxes)
        try:
            result = await engine.estimate(data, options)
        except ServiceError as error:
            raise PosewireError(f"a picture of the set failed: {error.detail}") from None
        return [row.model_dump() for row in coco_rows(result, 0, 0.0)]

    try:
        yield predict
    finally:
        await engine.close()


@asynccontextmanager
async def _over_http(url: str, settings: Settings) -> AsyncIterator[Predict]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def predict(data: bytes, boxes: FloatArray | None) -> list[Row]:
            query: dict[str, str] = {"format": "coco", "min_detection_score": str(settings.min_detection_score)}
            if boxes is not None:
                query["boxes"] = json.dumps(boxes.tolist())
            try:
                answer = await client.post("/v1/pose", params=query, content=data, headers={"Content-Type": sniff(data) or ""})
            except httpx.HTTPError as error:
                raise PosewireError(f"{url} does not answer: {error or type(error).__name__}") from None
            if answer.status_code != 200:
                raise PosewireError(f"{url} answered {answer.status_code}: {answer.text[:300]}")
            rows: list[Row] = answer.json()
            return rows

        yield predict
