"""The JSON that OpenPose writes with --write_json.

Source: https://cmu-perceptual-computing-lab.github.io/openpose/web/html/doc/md_doc_02_output.html, version 1.3 of the file.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from pydantic_core import to_json

from posewire.errors import BadParameter
from posewire.formats.base import SCORE_DECIMALS, Alone, Format, FormatOptions, ImagePoses, rounded, scale_of, xy_rows
from posewire.types import Keypoints, Pose

# The keypoints of OpenPose's COCO model (POSE_COCO_BODY_PARTS), by our names. No model of ours has a neck.
_NECK: Final = "neck"
COCO_18: Final = (
    *("nose", _NECK),
    *("right_shoulder", "right_elbow", "right_wrist"),
    *("left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle"),
    *("left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)
_SHOULDERS: Final = ("left_shoulder", "right_shoulder")

# OpenPose writes these also if the face, the hands and the third dimension are not estimated.
_EMPTY: Final[dict[str, list[float]]] = {
    f"{part}_keypoints_{dimension}": []
    for dimension in ("2d", "3d")
    for part in ("pose", "face", "hand_left", "hand_right")
    if (part, dimension) != ("pose", "2d")
}


class OpenPoseEncoder(Alone):
    """Writes one image as one file of OpenPose.

    Args:
        options: of the conversion.
        order: names of the keypoints to write; a name that the model does not have is written as 0 0 0, as OpenPose writes what it
            does not find. The neck is the mean of the shoulders; its score is the lower one.

    Raises:
        BadParameter: the model has none of the keypoints.
    """

    def __init__(self, options: FormatOptions, order: Sequence[str]) -> None:
        self._options = options
        self._order = order
        names = options.keypoints.names
        if not set(names) & set(order):
            raise BadParameter(f"format: openpose has none of the keypoints of {options.model}; choose openpose-model")

    def image(self, image: ImagePoses) -> bytes:
        """Return the JSON document of an image."""
        scale = scale_of(image.result, normalized=self._options.normalized)
        people = []
        for pose in image.result.people:
            person: dict[str, Any] = {"person_id": [-1 if pose.track_id is None else pose.track_id]}
            ordered = self._ordered(pose)
            values = zip(xy_rows(ordered, scale), rounded(ordered.keypoints.scores, SCORE_DECIMALS), strict=True)
            flat = [value for (x, y), score in values for value in (x, y, score)]
            people.append(person | {"pose_keypoints_2d": flat} | _EMPTY)
        return to_json({"version": 1.3, "people": people})

    def _ordered(self, pose: Pose) -> Pose:
        """Return the keypoints in OpenPose's order; the missing ones are zeros."""
        at = {name: i for i, name in enumerate(self._options.keypoints.names)}
        xy, scores = np.zeros((len(self._order), 2), np.float32), np.zeros(len(self._order), np.float32)
        found, found_scores = pose.keypoints.xy, pose.keypoints.scores
        for i, name in enumerate(self._order):
            sources = [at[part] for part in (_SHOULDERS if name == _NECK and name not in at else (name,)) if part in at]
            if sources and (found_scores[sources] >= self._options.min_keypoint_score).all():
                xy[i], scores[i] = found[sources].mean(0), found_scores[sources].min()
        return Pose(pose.box_xywh, pose.score, Keypoints(xy, scores), pose.track_id)


def _coco_18(options: FormatOptions) -> OpenPoseEncoder:
    return OpenPoseEncoder(options, COCO_18)


def _of_model(options: FormatOptions) -> OpenPoseEncoder:
    return OpenPoseEncoder(options, options.keypoints.names)


_SUFFIX: Final = "_keypoints.json"


def _format(name: Any, encoder: Callable[[FormatOptions], OpenPoseEncoder]) -> Format:
    return Format(name, "application/json", _SUFFIX, encoder, one_image=True, videos=True)


COCO_18_FORMAT = _format("openpose", _coco_18)
MODEL_FORMAT = _format("openpose-model", _of_model)
