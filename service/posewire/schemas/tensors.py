"""The contents of the tensors of the Open Inference Protocol: the boxes of requests, and the people of answers.

`posewire.schemas.inference_protocol` has their names, datatypes and shapes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from posewire.errors import BadParameter
from posewire.formats.base import DECIMALS, SCORE_DECIMALS
from posewire.formats.posewire import image_fields
from posewire.schemas.inference_protocol import TensorSpec
from posewire.schemas.pose import Coordinate, describe
from posewire.types import FloatArray, PoseResult

# Little-endian, without padding. An element of BYTES has its length before it, in the type of `LENGTH`.
DATATYPES: Final = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4")}
LENGTH: Final = np.dtype("<u4")

_COORDINATES = TypeAdapter(list[Coordinate])
_COUNTS = TypeAdapter(list[int])

# The elements of an output: rounded doubles, integers, or texts.
Elements: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.int32] | list[bytes]


@dataclass(frozen=True, slots=True, eq=False)
class OutputTensor:
    """An output tensor."""

    spec: TensorSpec
    shape: tuple[int, ...]
    elements: Elements

    def values(self) -> list[Any]:
        """Return the elements, row by row."""
        return self.elements if isinstance(self.elements, list) else self.elements.ravel().tolist()

    def array(self) -> npt.NDArray[Any]:
        """Return the elements as an array of the tensor's shape; those of BYTES are objects."""
        kind = np.dtype(np.object_) if isinstance(self.elements, list) else DATATYPES[self.spec.datatype]
        return np.asarray(self.elements, kind).reshape(self.shape)

    def binary(self) -> bytes:
        """Return the binary form."""
        if isinstance(self.elements, list):
            return b"".join(len(text).to_bytes(LENGTH.itemsize, "little") + text for text in self.elements)
        return self.elements.astype(DATATYPES[self.spec.datatype]).tobytes()


def share_boxes(coordinates: Sequence[Any], counts: Sequence[Any] | None, images: int) -> list[FloatArray | None]:
    """Return the boxes of each image, (N, 4) float32 x y w h in pixels of the upright image.

    Args:
        coordinates: of all boxes, row by row; their number is a multiple of four.
        counts: the number of boxes of each image; None: all are of the only image.
        images: number of images.

    Raises:
        BadParameter: a coordinate is not a number in the limits, or the counts do not fit.
    """
    try:
        values = _COORDINATES.validate_python(coordinates)
    except ValidationError as error:
        raise BadParameter(f"inputs: boxes: {describe(error)}") from None
    boxes = len(values) // 4
    if counts is None:
        if images > 1:
            raise BadParameter("inputs: boxes of several images need the tensor boxes_count: the number of boxes of each image")
        shares = [boxes]
    elif len(counts) == images:
        shares = _read_counts(counts)
    else:
        shares = []
    if len(shares) != images or any(share < 0 for share in shares) or sum(shares) != boxes:
        raise BadParameter(f"inputs: boxes_count does not share out {boxes} boxes among {images} images")
    rows = np.array(values, np.float32).reshape(-1, 4)
    ends = np.cumsum(shares)
    return [rows[end - share : end] for share, end in zip(shares, ends, strict=True)]


def _read_counts(counts: Sequence[Any]) -> list[int]:
    try:
        return _COUNTS.validate_python(counts, strict=True)
    except ValidationError as error:
        raise BadParameter(f"inputs: boxes_count: {describe(error)}") from None


class PeopleTensors:
    """The people of all images of a request as tensors. P is their number, in the order of the images.

    Args:
        results: one for each image.
        names: of the keypoints.
        min_keypoint_score: keypoints below it are 0 0 0.
    """

    def __init__(self, results: Sequence[PoseResult], names: tuple[str, ...], min_keypoint_score: float) -> None:
        self._results = results
        self._names = names
        self._threshold = min_keypoint_score
        self._people = [person for result in results for person in result.people]
        self._builders: dict[str, Callable[[], Elements]] = {
            "people_count": lambda: np.array([len(result.people) for result in results], np.int32),
            "image_size": lambda: np.array([(result.width, result.height) for result in results], np.int32),
            "image_index": lambda: np.repeat(np.arange(len(results), dtype=np.int32), [len(result.people) for result in results]),
            "boxes": lambda: _rounded([person.box_xywh for person in self._people], DECIMALS),
            "scores": lambda: _rounded([person.score for person in self._people], SCORE_DECIMALS),
            "keypoints": self._keypoints,
            "people": lambda: [to_json(image_fields(result, names, min_keypoint_score)) for result in results],
        }

    def tensor(self, spec: TensorSpec) -> OutputTensor:
        """Return an output."""
        rows = len(self._results) if spec.name in ("people_count", "image_size", "people") else len(self._people)
        return OutputTensor(spec, (rows, *spec.shape[1:]), self._builders[spec.name]())

    def _keypoints(self) -> npt.NDArray[np.float64]:
        """Return (P, K, 3): x, y, score."""
        found = np.zeros((len(self._people), len(self._names), 3))
        for row, person in zip(found, self._people, strict=True):
            scores = person.keypoints.scores
            row[:, :2] = _rounded(person.keypoints.xy, DECIMALS)
            row[:, 2] = _rounded(scores, SCORE_DECIMALS)
            row[scores < self._threshold] = 0
        return found


def _rounded(values: npt.ArrayLike, decimals: int) -> npt.NDArray[np.float64]:
    """Return the numbers as `POST /v1/pose` sends them: a float32 has no short decimal form."""
    return np.asarray(values, np.float64).round(decimals)
