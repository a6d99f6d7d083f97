"""Labels of YOLO pose models, one text per image: https://docs.ultralytics.com/datasets/pose/.

A line is `class x y width height`, then `x y visibility` of each keypoint. The box is given by its centre. All coordinates are divided by
the width and the height of the image.
"""

from posewire.formats.base import NORMALIZED_DECIMALS, Alone, Format, FormatOptions, ImagePoses, clipped_box, inside
from posewire.types import Pose, PoseResult

_VISIBLE = 2  # as in COCO: labelled and visible


class YoloEncoder(Alone):
    """Writes a line per person of class 0.

    The reader of YOLO drops an image with all its labels if a coordinate is outside of 0..1. So a box is cut at the border of the image,
    and a keypoint that is missing or outside is `0 0 0`: not labelled.
    """

    def __init__(self, options: FormatOptions) -> None:
        self._options = options

    def image(self, image: ImagePoses) -> bytes:
        """Return the lines of an image."""
        lines = (self._line(pose, image.result) for pose in image.result.people)
        return "".join(line for line in lines if line).encode()

    def _line(self, pose: Pose, result: PoseResult) -> str:
        box = clipped_box(pose, result)
        if box is None:
            return ""
        x, y, w, h = box
        width, height = result.width, result.height
        numbers = [_short((x + w / 2) / width), _short((y + h / 2) / height), _short(w / width), _short(h / height)]
        kept = inside(pose, result, self._options.min_keypoint_score)
        for (px, py), labelled in zip(pose.keypoints.xy.tolist(), kept, strict=True):
            numbers += [_short(px / width), _short(py / height), str(_VISIBLE)] if labelled else ["0", "0", "0"]
        return f"0 {' '.join(numbers)}\n"


def _short(value: float) -> str:
    return f"{value:.{NORMALIZED_DECIMALS}f}"


FORMAT = Format("yolo", "text/plain", ".txt", YoloEncoder, one_image=True, units="0..1")
