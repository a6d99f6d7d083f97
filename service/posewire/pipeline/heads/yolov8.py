"""The detector head `yolov8`: the raw export of Ultralytics' YOLOv8 and its successors, without suppression.

Source: https://docs.ultralytics.com/modes/export/, `nms=False`.
"""

from posewire.imaging.geometry import xywh_to_xyxy
from posewire.pipeline.heads.base import DetectorHead, register_detector_head
from posewire.registry.specs import DetectorSpec
from posewire.types import FloatArray


@register_detector_head("yolov8")
class YoloV8Head(DetectorHead):
    """Columns (4 + classes, A), one for each anchor point: centre and size in input pixels, then a score 0..1 for each class."""

    one_by_one = False

    def __init__(self, spec: DetectorSpec) -> None:
        self._person_class = spec.output.person_class

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the boxes (A, 4) and the scores of the class "person" (A,)."""
        boxes = raw[:4].T.copy()
        boxes[:, :2] -= boxes[:, 2:] / 2
        return xywh_to_xyxy(boxes), raw[4 + self._person_class]
