"""The JSON of Roboflow's inference server: https://inference.roboflow.com/, responses of keypoint detection.

The reader is `supervision`: `KeyPoints.from_inference` and `Detections.from_inference`. The box of a person is given by its centre.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import to_json

from posewire.errors import NotInstalled
from posewire.formats.base import PERSON, SCORE_DECIMALS, Alone, Format, FormatOptions, ImagePoses, box_row, rounded, scale_of, xy_rows
from posewire.types import FloatArray, Pose

if TYPE_CHECKING:
    from supervision import Detections, KeyPoints


class RoboflowEncoder(Alone):
    """Writes one image as the server answers a request."""

    def __init__(self, options: FormatOptions) -> None:
        self._options = options

    def image(self, image: ImagePoses) -> bytes:
        """Return the JSON document of an image."""
        return to_json(inference_result(image, self._options))


def inference_result(image: ImagePoses, options: FormatOptions) -> dict[str, Any]:
    """Return an image as a response of the server; `class_id` of a keypoint is its index in the keypoint set."""
    result, scale = image.result, scale_of(image.result, normalized=options.normalized)
    return {
        "time": round(result.timings.total, 6),
        "image": {"width": result.width, "height": result.height},
        "predictions": [_prediction(pose, options, scale) for pose in result.people],
    }


def _prediction(pose: Pose, options: FormatOptions, scale: FloatArray | None) -> dict[str, Any]:
    x, y, w, h = box_row(pose, scale)
    scores = pose.keypoints.scores
    values = zip(options.keypoints.names, xy_rows(pose, scale), rounded(scores, SCORE_DECIMALS), scores.tolist(), strict=True)
    prediction = {
        **{"x": x + w / 2, "y": y + h / 2, "width": w, "height": h},
        **{"confidence": round(pose.score, SCORE_DECIMALS), "class": PERSON, "class_id": 0},
        "keypoints": [
            {"x": px, "y": py, "confidence": score, "class": name, "class_id": index}
            for index, (name, (px, py), score, exact) in enumerate(values)
            if exact >= options.min_keypoint_score
        ],
    }
    return prediction if pose.track_id is None else prediction | {"tracker_id": pose.track_id}


class Supervision(NamedTuple):
    """The people of one image as the classes of `supervision`, in the same order."""

    key_points: "KeyPoints"
    detections: "Detections"


def to_supervision(image: ImagePoses, options: FormatOptions) -> Supervision:
    """Return the people of an image as `supervision.KeyPoints` and `supervision.Detections`; a missing keypoint is 0 0 with score 0.

    Raises:
        NotInstalled: supervision is not installed.
    """
    try:
        import supervision as sv  # noqa: PLC0415 - an extra
    except ImportError:
        raise NotInstalled("this needs supervision, which is not installed here: pip install 'posewire[supervision]'") from None
    result = inference_result(image, options)
    return Supervision(sv.KeyPoints.from_inference(result), sv.Detections.from_inference(result))


FORMAT = Format("roboflow", "application/json", ".json", RoboflowEncoder, one_image=True)
