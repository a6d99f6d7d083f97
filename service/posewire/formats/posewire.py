"""Posewire's own JSON: the fields of one image or frame."""

from typing import Any

from pydantic_core import to_json

from posewire.formats.base import SCORE_DECIMALS, Alone, Format, FormatOptions, ImagePoses, box_row, rounded, scale_of, xy_rows
from posewire.types import FloatArray, Pose, PoseResult, Timings


class PosewireEncoder(Alone):
    """Writes one image as an entry of `images` of POST /v1/pose."""

    def __init__(self, options: FormatOptions) -> None:
        self._options = options

    def image(self, image: ImagePoses) -> bytes:
        """Return the JSON object of an image."""
        options = self._options
        scale = scale_of(image.result, normalized=options.normalized)
        return to_json(image_fields(image.result, options.keypoints.names, options.min_keypoint_score, scale))


def image_fields(result: PoseResult, names: tuple[str, ...], min_keypoint_score: float, scale: FloatArray | None = None) -> dict[str, Any]:
    """Return the fields that every answer has for an image or frame: `width`, `height`, `people` and `timings_ms`.

    Args:
        result: of the image.
        names: of the keypoints, K.
        min_keypoint_score: 0..1; keypoints below it are left out.
        scale: divisor (2,) of x and y; None: pixels.
    """
    return {
        "width": result.width,
        "height": result.height,
        "people": [_person_fields(pose, names, min_keypoint_score, scale) for pose in result.people],
        "timings_ms": {stage: round(ms, 2) for stage, ms in stages_ms(result.timings).items()},
    }


def _person_fields(pose: Pose, names: tuple[str, ...], min_keypoint_score: float, scale: FloatArray | None) -> dict[str, Any]:
    """Return a person as it is sent: without keypoints below `min_keypoint_score`, and with `track_id` if there is one."""
    scores = pose.keypoints.scores
    rows = zip(names, xy_rows(pose, scale), rounded(scores, SCORE_DECIMALS), scores.tolist(), strict=True)
    person = {
        "box": box_row(pose, scale),
        "score": round(pose.score, SCORE_DECIMALS),
        "keypoints": [{"name": name, "x": x, "y": y, "score": score} for name, (x, y), score, exact in rows if exact >= min_keypoint_score],
    }
    return person if pose.track_id is None else person | {"track_id": pose.track_id}


def stages_ms(t: Timings) -> dict[str, float]:
    """Return the milliseconds of each stage that an answer reports, not rounded; cropping is part of `pose`."""
    stages = {"decode": t.decode, "queue": t.queue, "detect": t.detect, "pose": t.crop + t.pose, "total": t.total}
    return {k: v * 1000 for k, v in stages.items()}


FORMAT = Format("posewire", "application/json", ".json", PosewireEncoder, one_image=True, videos=True)
