"""The JSON that OpenPose writes with --write_json.

Source: https://cmu-perceptual-computing-lab.github.io/openpose/web/html/doc/md_doc_02_output.html, version 1.3 of the file.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from pydantic_core import to_json

from posewire.errors import BadParameter
from posewire.formats.base import SCORE_DECIMALS, Alone, Format, FormatOptions, ImagePoses, rounded, scale_of, xy_rows
from posewire.types import Keypoints, Pose

# The keypoints of OpenPose's COCO model (POSE_COCO_BODY_PARTS), by our names.
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

# The keypoints of OpenPose's hands and face, by the names of COCO-WholeBody; it has the pupils after the face's 68, which no set has.
_FINGERS: Final = tuple(
    f"{finger}{joint}" for finger in ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger") for joint in range(1, 5)
)
_PARTS: Final = {
    "face_keypoints_2d": (*(f"face-{i}" for i in range(68)), "left_pupil", "right_pupil"),
    "hand_left_keypoints_2d": ("left_hand_root", *(f"left_{name}" for name in _FINGERS)),
    "hand_right_keypoints_2d": ("right_hand_root", *(f"right_{name}" for name in _FINGERS)),
}

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
            does not find. The neck is the mean of the shoulders, unless the model has one; its score is the lower one.
        parts: lists of names to write beside them, by their keys; those of which the model has none are empty.

    Raises:
        BadParameter: the model has none of the keypoints.
    """

    def __init__(self, options: FormatOptions, order: Sequence[str], parts: Mapping[str, Sequence[str]] = MappingProxyType({})) -> None:
        self._options = options
        names = set(options.keypoints.names)
        self._orders = {"pose_keypoints_2d": order} | {key: part for key, part in parts.items() if names & set(part)}
        if not names & set(order):
            raise BadParameter(f"format: openpose has none of the keypoints of {options.model}; choose openpose-model")

    def image(self, image: ImagePoses) -> bytes:
        """Return the JSON document of an image."""
        scale = scale_of(image.result, normalized=self._options.normalized)
        people = []
        for pose in image.result.people:
            person: dict[str, Any] = {"person_id": [-1 if pose.track_id is None else pose.track_id]}
            for key, order in self._orders.items():
                ordered = self._ordered(pose, order)
                values = zip(xy_rows(ordered, scale), rounded(ordered.keypoints.scores, SCORE_DECIMALS), strict=True)
                person[key] = [value for (x, y), score in values for value in (x, y, score)]
            people.append(person | {key: empty for key, empty in _EMPTY.items() if key not in person})
        return to_json({"version": 1.3, "people": people})

    def _ordered(self, pose: Pose, order: Sequence[str]) -> Pose:
        """Return the keypoints in OpenPose's order; the missing ones are zeros."""
        at = {name: i for i, name in enumerate(self._options.keypoints.names)}
        xy, scores = np.zeros((len(order), 2), np.float32), np.zeros(len(order), np.float32)
        found, found_scores = pose.keypoints.xy, pose.keypoints.scores
        for i, name in enumerate(order):
            sources = [at[part] for part in (_SHOULDERS if name == _NECK and name not in at else (name,)) if part in at]
            if sources and (found_scores[sources] >= self._options.min_keypoint_score).all():
                xy[i], scores[i] = found[sources].mean(0), found_scores[sources].min()
        return Pose(pose.box_xywh, pose.score, Keypoints(xy, scores), pose.track_id)


def _coco_18(options: FormatOptions) -> OpenPoseEncoder:
    return OpenPoseEncoder(options, COCO_18, _PARTS)


def _of_model(options: FormatOptions) -> OpenPoseEncoder:
    return OpenPoseEncoder(options, options.keypoints.names)


_SUFFIX: Final = "_keypoints.json"


def _format(name: Any, encoder: Callable[[FormatOptions], OpenPoseEncoder]) -> Format:
    return Format(name, "application/json", _SUFFIX, encoder, one_image=True, videos=True)


COCO_18_FORMAT = _format("openpose", _coco_18)
MODEL_FORMAT = _format("openpose-model", _of_model)
