"""Results that know their keypoints, with a method per conversion: of `PosePipeline`, and of the client."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from posewire.formats.base import FormatOptions, ImagePoses
from posewire.formats.coco import coco_rows
from posewire.formats.registry import format_of
from posewire.formats.roboflow import Supervision, to_supervision
from posewire.formats.tables import data_frame
from posewire.registry.keypoint_sets import KeypointSet
from posewire.types import PoseResult

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class NamedPoseResult(PoseResult):
    """Everyone in one image, with the names of the keypoints, and conversions to the formats of other programs.

    Example:
        result = pipeline("street.jpg")
        Path("street.csv").write_bytes(result.to("csv", image="street.jpg"))
    """

    keypoint_set: KeypointSet = field(kw_only=True)
    model: str = field(kw_only=True)  # name of the pose model

    @classmethod
    def of(cls, result: PoseResult, keypoint_set: KeypointSet, model: str) -> "NamedPoseResult":
        """Return a result with the keypoint set and the name of the model that made it."""
        return cls(result.width, result.height, result.people, result.timings, keypoint_set=keypoint_set, model=model)

    def to(self, form: str, *, image: int | str = 0, min_keypoint_score: float = 0.0, normalized: bool = False) -> bytes:
        """Return the result as a file of a format: docs/formats.md describes them.

        Args:
            form: name of the format, such as "csv", "openpose" or "yolo".
            image: id of the image, such as the name of its file.
            min_keypoint_score: 0..1; keypoints below it are missing.
            normalized: divide coordinates by the width and the height of the image.

        Raises:
            BadParameter: no format has this name, or the options do not fit it.
            NotInstalled: the format needs an extra; the message says which.
        """
        options = self._options(min_keypoint_score, normalized)
        body, _ = format_of(form).document([ImagePoses(image, self)], options)
        return body

    def to_coco(self, image: int | str = 0, *, min_keypoint_score: float = 0.0) -> list[dict[str, Any]]:
        """Return the people as rows of COCO's results list; `image` is their `image_id`."""
        return coco_rows(self, image, min_keypoint_score)

    def to_dataframe(self, image: int | str = 0, *, min_keypoint_score: float = 0.0, normalized: bool = False) -> "pd.DataFrame":
        """Return a data frame of pandas with a row per keypoint; the arguments are those of `to`.

        Raises:
            NotInstalled: pandas is not installed.
        """
        return data_frame([ImagePoses(image, self)], self._options(min_keypoint_score, normalized))

    def to_supervision(self, *, min_keypoint_score: float = 0.0) -> Supervision:
        """Return the people as `supervision.KeyPoints` and `supervision.Detections`, best first.

        Raises:
            NotInstalled: supervision is not installed.
        """
        return to_supervision(ImagePoses(0, self), self._options(min_keypoint_score))

    def _options(self, min_keypoint_score: float, normalized: bool = False) -> FormatOptions:
        return FormatOptions(self.keypoint_set, self.model, min_keypoint_score, normalized)


def convert(results: Sequence[NamedPoseResult], form: str, options: FormatOptions) -> bytes:
    """Return the results of several images as one document; the id of an image is its index.

    Raises:
        BadParameter, NotInstalled: as `NamedPoseResult.to`.
    """
    body, _ = format_of(form).document([ImagePoses(index, result) for index, result in enumerate(results)], options)
    return body


def frame_of(results: Sequence[NamedPoseResult], options: FormatOptions) -> "pd.DataFrame":
    """Return the results of several images as one data frame; `image` is the index.

    Raises:
        NotInstalled: pandas is not installed.
    """
    return data_frame([ImagePoses(index, result) for index, result in enumerate(results)], options)
