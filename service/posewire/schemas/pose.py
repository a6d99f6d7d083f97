"""The JSON of `POST /v1/pose` and `GET /v1/models`.

Coordinates are pixels of the upright image, after EXIF orientation.
"""

from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic_core import to_json

from posewire.errors import BadParameter
from posewire.formats.base import FormatName, FormatOptions, scale_of
from posewire.formats.posewire import image_fields
from posewire.formats.result import NamedPoseResult, convert, frame_of
from posewire.formats.roboflow import Supervision
from posewire.registry.keypoint_sets import KeypointSet, keypoint_set_of
from posewire.types import FloatArray, Keypoints, Pose, PoseResult, Timings

if TYPE_CHECKING:
    import pandas as pd
    from fastapi.exceptions import RequestValidationError  # the command line does without FastAPI, which takes a third of a second

# Far larger than any image, and far smaller than the numbers at which float32 overflows in the crop's affine.
Coordinate = Annotated[float, Field(strict=True, ge=-1e6, le=1e6, allow_inf_nan=False)]

# JSON Schema can describe a tuple item by item, but generators of clients make untyped lists of that. So each schema is that of a list.
Box = Annotated[
    tuple[Coordinate, Coordinate, Coordinate, Coordinate],
    WithJsonSchema({"type": "array", "items": {"type": "number", "minimum": -1e6, "maximum": 1e6}, "minItems": 4, "maxItems": 4}),
]
BoxOut = Annotated[
    tuple[float, float, float, float],
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}),
]
Limb = Annotated[tuple[int, int], WithJsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2})]

_BOXES = TypeAdapter(list[Box])

# Boxes in a query, as JSON.
BoxesParam = Annotated[str, Field(examples=["[[30, 0, 400, 512]]"])]


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
        0.0, description="Keypoints below this score are left out, 0 0 0 (formats with a fixed number of them) or not drawn."
    )
    max_people: Annotated[int, Field(ge=1)] | None = Field(None, description="Limit of people per image; the best are returned.")
    boxes: BoxesParam | None = Field(
        None, description="JSON [[x, y, width, height], …] in pixels of the upright image: the detector is skipped."
    )
    format: FormatName = Field("posewire", description="Format of the answer; docs/formats.md describes them.")
    normalized: bool = Field(
        False, description="Coordinates are divided by the width and the height of the image, where the format has pixels."
    )


class KeypointOut(BaseModel):
    """One keypoint."""

    name: str = Field(description="A name of the model's keypoint set, such as nose or left_elbow.")
    x: float = Field(description="Pixels of the upright image, from its left edge.")
    y: float = Field(description="Pixels of the upright image, from its upper edge.")
    score: float = Field(description="0..1: the heatmap's peak.")


class PersonOut(BaseModel):
    """One person."""

    box: BoxOut = Field(description="x, y, width, height, in pixels of the upright image.")
    score: float = Field(description="0..1: the box's score times the mean of the keypoint scores above 0.2.")
    keypoints: list[KeypointOut] = Field(description="In the order of the keypoint set, without those below `min_keypoint_score`.")


class TimingsOut(BaseModel):
    """The time of each stage of one image, in milliseconds."""

    decode: float = Field(description="Decoding of the image.")
    queue: float = Field(description="Waiting for a worker or a model.")
    detect: float = Field(description="The detector.")
    pose: float = Field(description="The crops, and the pose model.")
    total: float = Field(description="From the admission to the result.")


class ImageOut(BaseModel):
    """Everyone in one image: best first, or in the order of the caller's boxes."""

    width: int = Field(description="Pixels of the upright image.")
    height: int = Field(description="Pixels of the upright image.")
    people: list[PersonOut] = Field(description="Empty if nobody is in the image.")
    timings_ms: TimingsOut

    @classmethod
    def from_result(cls, result: PoseResult, names: tuple[str, ...], min_keypoint_score: float, scale: FloatArray | None = None) -> Self:
        """Return the result of one image as it is sent; `scale` (2,) divides x and y."""
        return cls.model_validate(image_fields(result, names, min_keypoint_score, scale))

    def to_result(self, keypoint_set: KeypointSet, model: str) -> NamedPoseResult:
        """Return the image as a result of a pipeline; keypoints that were left out have the score NaN.

        Args:
            keypoint_set: of the pose model.
            model: name of the pose model.
        """
        at = {name: i for i, name in enumerate(keypoint_set.names)}
        people = []
        for person in self.people:
            xy, scores = np.zeros((len(at), 2), np.float32), np.full(len(at), np.nan, np.float32)
            for keypoint in person.keypoints:
                xy[at[keypoint.name]], scores[at[keypoint.name]] = (keypoint.x, keypoint.y), keypoint.score
            people.append(Pose(np.asarray(person.box, np.float32), person.score, Keypoints(xy, scores)))
        stages = self.timings_ms.model_dump().items()
        timings = Timings(**{stage: ms / 1000 for stage, ms in stages})
        return NamedPoseResult(self.width, self.height, tuple(people), timings, keypoint_set=keypoint_set, model=model)


class ModelNames(BaseModel):
    """The names of the models that produced the answer."""

    detector: str
    pose: str


class PoseResponse(BaseModel):
    """The answer of POST /v1/pose, format=posewire."""

    request_id: str = Field(description="The same as the header X-Request-Id.")
    model: ModelNames
    images: list[ImageOut] = Field(description="In the order of the request.")

    @property
    def keypoint_set(self) -> KeypointSet:
        """Return the first keypoint set that has the names of all keypoints in the answer."""
        return keypoint_set_of(keypoint.name for image in self.images for person in image.people for keypoint in person.keypoints)

    @property
    def results(self) -> list[NamedPoseResult]:
        """Return the images as results of a pipeline, which have the conversions of one image."""
        keypoint_set = self.keypoint_set
        return [image.to_result(keypoint_set, self.model.pose) for image in self.images]

    def to(self, form: str, *, min_keypoint_score: float = 0.0, normalized: bool = False) -> bytes:
        """Return all images in one document, as the service answers with this `format`.

        Args:
            form: name of the format, such as "csv" or "openpose"; docs/formats.md describes them.
            min_keypoint_score: 0..1; keypoints below it are missing.
            normalized: divide coordinates by the width and the height of the image.

        Raises:
            BadParameter: no format has this name, or the options do not fit it.
            NotInstalled: the format needs an extra; the message says which.
        """
        results, options = self.results, self._options(min_keypoint_score, normalized)
        if form != "posewire":
            return convert(results, form, options)
        names = options.keypoints.names
        images = [image_fields(result, names, min_keypoint_score, scale_of(result, normalized=options.normalized)) for result in results]
        return to_json({"request_id": self.request_id, "model": self.model, "images": images})

    def to_coco(self) -> list[dict[str, Any]]:
        """Return the people of all images as rows of COCO's results list; `image_id` is the image's index."""
        return [row for index, result in enumerate(self.results) for row in result.to_coco(index)]

    def to_dataframe(self, *, normalized: bool = False) -> "pd.DataFrame":
        """Return a data frame of pandas with a row per keypoint; `image` is the image's index.

        Raises:
            NotInstalled: pandas is not installed.
        """
        return frame_of(self.results, self._options(0.0, normalized))

    def to_supervision(self) -> list[Supervision]:
        """Return the people of each image as `supervision.KeyPoints` and `supervision.Detections`.

        Raises:
            NotInstalled: supervision is not installed.
        """
        return [result.to_supervision() for result in self.results]

    def _options(self, min_keypoint_score: float, normalized: bool) -> FormatOptions:
        return FormatOptions(self.keypoint_set, self.model.pose, min_keypoint_score, normalized)


class CocoPerson(BaseModel):
    """One row of COCO's results list; `image_id` is the image's index in the request."""

    # Over HTTP it is always a number; only the command line has names.
    image_id: Annotated[int | str, WithJsonSchema({"type": "integer"})]
    category_id: int = Field(description="1: COCO's category of people.")
    keypoints: list[float] = Field(description="x, y, score for each keypoint of the pose model's set.")
    score: float
    bbox: BoxOut = Field(description="x, y, width, height, in pixels of the upright image.")


class ModelOut(BaseModel):
    """One served model."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    name: str = Field(description="Of the manifest.")
    task: str = Field(description="detector or pose.")
    title: str
    provider: str = Field(description="What the model runs on: the name of ONNX Runtime's provider, or Posewire's kernels.")
    file: str = Field(description="The file of the model that runs here: the ONNX file, or the file for Posewire's kernels.")
    sha256: str = Field(description="The SHA-256 of that file.")
    licence: str
    input_height: int = Field(description="Pixels.")
    input_width: int = Field(description="Pixels.")
    keypoint_set: str | None = Field(None, description="Name of the keypoint set, such as coco-17; null: not a pose model.")
    keypoints: list[str] | None = Field(None, description="Names of the keypoints; null: not a pose model.")
    skeleton: list[Limb] | None = Field(None, description="Pairs of indices into `keypoints` that a limb connects; null: not a pose model.")


class ModelsResponse(BaseModel):
    """The answer of GET /v1/models."""

    device: str = Field(description="cpu, cuda or tensorrt; none: the models are not loaded yet.")
    device_reason: str = Field(description="The reason for this device.")
    workers: int = Field(description="Number of worker processes; 0: the models run in the service's process.")
    pair: str | None = Field(description="The name of the pair of both models; null: they are not a pair of the manifest.")
    models: list[ModelOut]
