"""The JSON of `POST /v1/pose` and `GET /v1/models`.

Coordinates are pixels of the upright image, after EXIF orientation.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from posewire.errors import BadParameter
from posewire.types import FloatArray, Pose, PoseResult, Timings

if TYPE_CHECKING:  # the command line does without FastAPI, which takes a third of a second to import
    from fastapi.exceptions import RequestValidationError

# A thousandth of a pixel: finer digits are noise, and they make the answer longer.
DECIMALS = 3
SCORE_DECIMALS = 4

# Far larger than any image, and far smaller than the numbers at which float32 overflows in the crop's affine.
Coordinate = Annotated[float, Field(strict=True, ge=-1e6, le=1e6, allow_inf_nan=False)]

Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]

_BOXES = TypeAdapter(list[Box])


def parse_boxes(text: str | None) -> list[Box] | None:
    """Parse the query parameter `boxes`.

    Raises:
        BadParameter: it is not JSON of the form [[x, y, width, height], …].
    """
    if text is None:
        return None
    try:
        return _BOXES.validate_json(text)
    except ValidationError as error:
        raise BadParameter(f"boxes: {describe(error)}; a JSON list of [x, y, width, height] is needed") from None


def describe(error: "ValidationError | RequestValidationError") -> str:
    """Return a validation error as one line: the place, and the problem. Names come from the caller, so they are escaped."""
    parts = []
    for e in error.errors()[:3]:
        names = (p for p in e["loc"] if p not in ("query", "body", "header"))
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{_one_line(p)}" for p in names).lstrip(".")
        parts.append(f"{where}: {e['msg'].removeprefix('Value error, ').lower()}" if where else e["msg"].lower())
    return "; ".join(parts)


def _one_line(name: str) -> str:
    return name if name.isprintable() else ascii(name)


class ImageIn(BaseModel):
    """One image of a JSON body."""

    model_config = ConfigDict(extra="forbid")

    base64: str = Field(description="The image's bytes (JPEG, PNG, WebP or BMP) in base64, or as a data: URL.")
    boxes: Annotated[list[Box], Field(fail_fast=True)] | None = Field(
        None, description="People as [x, y, width, height]; with boxes the detector is skipped."
    )


class PoseRequest(BaseModel):
    """A JSON body."""

    model_config = ConfigDict(extra="forbid")

    # The first error is enough: a body of errors would take far more memory than the body.
    images: Annotated[list[ImageIn], Field(min_length=1, fail_fast=True)]


class PoseParams(BaseModel):
    """The query of POST /v1/pose."""

    model_config = ConfigDict(extra="forbid")

    min_detection_score: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="People below this score are left out.")
    min_keypoint_score: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Keypoints below this score are left out (format=posewire), 0 0 0 (format=coco) or not drawn."
    )
    max_people: Annotated[int, Field(ge=1)] | None = Field(None, description="Limit of people per image; the best are returned.")
    boxes: str | None = Field(None, description="JSON [[x, y, width, height], …] in pixels of the upright image: the detector is skipped.")
    format: Literal["posewire", "coco"] = Field("posewire", description="posewire, or COCO's results list.")


class KeypointOut(BaseModel):
    """One keypoint."""

    name: str
    x: float
    y: float
    score: float = Field(description="0..1: the heatmap's peak.")


class PersonOut(BaseModel):
    """One person."""

    box: tuple[float, float, float, float] = Field(description="x, y, width, height.")
    score: float = Field(description="0..1: the box's score times the mean of the keypoint scores above 0.2.")
    keypoints: list[KeypointOut]


class TimingsOut(BaseModel):
    """The time of each stage of one image, in milliseconds."""

    decode: float
    queue: float
    detect: float
    pose: float
    total: float


class ImageOut(BaseModel):
    """Everyone in one image: best first, or in the order of the caller's boxes."""

    width: int
    height: int
    people: list[PersonOut]
    timings_ms: TimingsOut

    @classmethod
    def from_result(cls, result: PoseResult, names: tuple[str, ...], min_keypoint_score: float) -> Self:
        """Return the result of one image as it is sent."""
        return cls.model_validate(image_fields(result, names, min_keypoint_score))


def image_fields(result: PoseResult, names: tuple[str, ...], min_keypoint_score: float) -> dict[str, Any]:
    """Return the fields that every answer has for an image or frame: `width`, `height`, `people` and `timings_ms`."""
    return {
        "width": result.width,
        "height": result.height,
        "people": [_person_fields(pose, names, min_keypoint_score) for pose in result.people],
        "timings_ms": {stage: round(ms, 2) for stage, ms in stages_ms(result.timings).items()},
    }


def _person_fields(pose: Pose, names: tuple[str, ...], min_keypoint_score: float) -> dict[str, Any]:
    """Return a person as it is sent: without keypoints below `min_keypoint_score`, and with `track_id` if there is one."""
    scores = pose.keypoints.scores
    rows = zip(names, _rounded(pose.keypoints.xy, DECIMALS), _rounded(scores, SCORE_DECIMALS), scores.tolist(), strict=True)
    person = {
        "box": _rounded(pose.box_xywh, DECIMALS),
        "score": round(pose.score, SCORE_DECIMALS),
        "keypoints": [{"name": name, "x": x, "y": y, "score": score} for name, (x, y), score, exact in rows if exact >= min_keypoint_score],
    }
    return person if pose.track_id is None else person | {"track_id": pose.track_id}


def _rounded(values: FloatArray, decimals: int) -> list[Any]:
    """Return rounded doubles (a float32 has no short decimal form); rounding the array is faster than `round` for each value."""
    rounded: list[Any] = values.astype(np.float64).round(decimals).tolist()
    return rounded


def stages_ms(t: Timings) -> dict[str, float]:
    """Return the milliseconds of each stage that an answer reports, not rounded; cropping is part of `pose`."""
    stages = {"decode": t.decode, "queue": t.queue, "detect": t.detect, "pose": t.crop + t.pose, "total": t.total}
    return {k: v * 1000 for k, v in stages.items()}


class ModelNames(BaseModel):
    """The names of the models that produced the answer."""

    detector: str
    pose: str


class PoseResponse(BaseModel):
    """The answer of POST /v1/pose, format=posewire."""

    request_id: str
    model: ModelNames
    images: list[ImageOut]


class CocoPerson(BaseModel):
    """One row of COCO's results list; `image_id` is the image's index in the request."""

    image_id: int | str
    category_id: int
    keypoints: list[float] = Field(description="x, y, score for each of the 17 keypoints.")
    score: float
    bbox: tuple[float, float, float, float]


def coco_rows(result: PoseResult, image_id: int | str, min_keypoint_score: float) -> list[CocoPerson]:
    """Return people as rows of COCO's results list; a keypoint below `min_keypoint_score` is 0 0 0, COCO's value for a missing one."""
    rows = []
    for pose in result.people:
        flat: list[float] = []
        scores = pose.keypoints.scores
        rounded = zip(_rounded(pose.keypoints.xy, DECIMALS), _rounded(scores, SCORE_DECIMALS), scores.tolist(), strict=True)
        for (x, y), score, exact in rounded:
            flat += [x, y, score] if exact >= min_keypoint_score else [0.0, 0.0, 0.0]
        rows.append(
            CocoPerson.model_construct(
                image_id=image_id, category_id=1, keypoints=flat, score=round(pose.score, SCORE_DECIMALS), bbox=_box(pose)
            )
        )
    return rows


def _box(pose: Pose) -> tuple[float, float, float, float]:
    x, y, w, h = _rounded(pose.box_xywh, DECIMALS)
    return x, y, w, h


class ModelOut(BaseModel):
    """One served model."""

    name: str
    task: str
    title: str
    provider: str = Field(description="What the model runs on: the name of ONNX Runtime's provider, or Posewire's kernels.")
    file: str = Field(description="The file of the model that runs here: the ONNX file, or the file for Posewire's kernels.")
    sha256: str = Field(description="The SHA-256 of that file.")
    licence: str
    input_height: int
    input_width: int
    keypoints: list[str] | None = None
    skeleton: list[tuple[int, int]] | None = None


class ModelsResponse(BaseModel):
    """The answer of GET /v1/models."""

    device: str
    device_reason: str
    workers: int
    pair: str | None = Field(description="The name of the pair of both models; null: they are not a pair of the manifest.")
    models: list[ModelOut]
