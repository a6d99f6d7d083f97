"""The parts that all formats share: what is converted, the options, and the shape of a format.

A format is an encoder that is given images one by one, so that the results of a long video need not be in memory together.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from posewire.errors import BadParameter
from posewire.registry.keypoint_sets import KeypointSet
from posewire.types import FloatArray, Pose, PoseResult

FormatName: TypeAlias = Literal[
    "posewire", "coco", "openpose", "openpose-model", "csv", "parquet", "yolo", "roboflow", "labelstudio", "cvat"
]  # fmt: skip

# A thousandth of a pixel: finer digits are noise, and they make the answer longer.
DECIMALS = 3
SCORE_DECIMALS = 4
# Of an image with 10,000 pixels on a side, this is a hundredth of a pixel.
NORMALIZED_DECIMALS = 6

# The class of all people, where a format has classes.
PERSON = "person"


@dataclass(frozen=True, slots=True, eq=False)
class ImagePoses:
    """The people of one image or frame, and how the image is called.

    A keypoint whose score is NaN is missing: it is below every threshold.
    """

    id: int | str  # index in a request, or name of a file
    result: PoseResult
    frame: int | None = None  # number in a video, from 0
    time_ms: float | None = None  # from the first frame of a video


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """The options of a conversion."""

    keypoints: KeypointSet  # of the pose model
    model: str  # name of the pose model
    min_keypoint_score: float = 0.0  # 0..1; keypoints below it are missing
    normalized: bool = False  # coordinates are divided by the width and the height of the image


class Encoder(Protocol):
    """Turns images into the bytes of a document: the head, then each image, then the tail."""

    def head(self) -> bytes:
        """Return what is before the first image."""

    def image(self, image: ImagePoses) -> bytes:
        """Return the part of one image; empty if the encoder collects several."""

    def tail(self) -> bytes:
        """Return what is after the last image."""


@dataclass(frozen=True, slots=True)
class Format:
    """One format of results."""

    name: FormatName
    media_type: str
    suffix: str  # of the name of a file; it replaces that of the image where there is a file per image
    encoder: Callable[[FormatOptions], Encoder]
    one_image: bool = False  # a document has one image
    lines: bool = False  # it is a document at every image, so it can be shown while it is written
    videos: bool = False  # it can hold frames with their time or number
    units: Literal["pixels", "0..1", "percent"] = "pixels"  # of the coordinates
    fixed_units: bool = False  # its readers take no other units
    require: Callable[[], object] = lambda: None  # raises NotInstalled

    def check(self, *, normalized: bool) -> None:
        """Raise an error if the format cannot be written here, before anything is computed for it.

        Raises:
            NotInstalled: an extra is not installed; the message says which.
            BadParameter: the coordinates of this format cannot be normalised.
        """
        if normalized and self.fixed_units:
            raise BadParameter(f"normalized: coordinates of {self.name} are {self.units}; leave it out, or choose another format")
        self.require()

    def document(self, images: Sequence[ImagePoses], options: FormatOptions) -> tuple[bytes, str]:
        """Return one document with all images, and its media type.

        Several images of a format that has a document per image are a JSON list of the documents, or a ZIP archive if they are no JSON:
        its files have the ids of the images as names.

        Raises:
            NotInstalled: an extra is not installed.
            BadParameter: the options do not fit the format.
        """
        self.check(normalized=options.normalized)
        encoder = self.encoder(options)
        parts = [encoder.head(), *map(encoder.image, images), encoder.tail()]
        if not self.one_image or len(images) == 1:
            return b"".join(parts), self.media_type
        if self.media_type == "application/json":
            return b"[" + b",".join(parts[1:-1]) + b"]", self.media_type
        return _archive({f"{image.id}{self.suffix}": part for image, part in zip(images, parts[1:-1], strict=True)}), "application/zip"


def _archive(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(
                zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED
            )  # without the time, so that the same poses are the same bytes
    return archive.getvalue()


class Alone:
    """The empty head and tail of a document with one image."""

    def head(self) -> bytes:
        """Return nothing."""
        return b""

    def tail(self) -> bytes:
        """Return nothing."""
        return b""


def scale_of(result: PoseResult, *, normalized: bool) -> FloatArray | None:
    """Return the divisor (2,) float32 of x and y; None: coordinates stay pixels."""
    return np.asarray([result.width, result.height], np.float32) if normalized else None


def xy_rows(pose: Pose, scale: FloatArray | None) -> list[list[float]]:
    """Return the coordinates of a person's keypoints, K pairs, divided by `scale` and rounded."""
    xy = pose.keypoints.xy
    return rounded(xy, DECIMALS) if scale is None else rounded(xy / scale, NORMALIZED_DECIMALS)


def box_row(pose: Pose, scale: FloatArray | None) -> list[float]:
    """Return a person's box, x y w h, divided by `scale` and rounded."""
    box = pose.box_xywh
    return rounded(box, DECIMALS) if scale is None else rounded(box / np.concatenate([scale, scale]), NORMALIZED_DECIMALS)


def rounded(values: FloatArray, decimals: int) -> list[Any]:
    """Return rounded doubles (a float32 has no short decimal form); rounding the array is faster than `round` for each value."""
    values_rounded: list[Any] = values.astype(np.float64).round(decimals).tolist()
    return values_rounded


def inside(pose: Pose, result: PoseResult, min_keypoint_score: float) -> list[bool]:
    """Return for each keypoint whether it lies in the image and has the score; annotation tools take no others."""
    x, y = pose.keypoints.xy.T
    kept = (pose.keypoints.scores >= min_keypoint_score) & (x >= 0) & (y >= 0) & (x <= result.width) & (y <= result.height)
    return [bool(value) for value in kept]


def clipped_box(pose: Pose, result: PoseResult) -> tuple[float, float, float, float] | None:
    """Return the part of a person's box in the image, x y w h in pixels; None if it has no area."""
    x, y, w, h = pose.box_xywh.astype(np.float64).tolist()
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, result.width), min(y + h, result.height)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None
