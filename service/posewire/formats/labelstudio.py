"""Tasks of Label Studio with predictions to correct: https://labelstud.io/guide/predictions.

Coordinates are percent of the image.
"""

from typing import Any, Final
from xml.etree import ElementTree as ET

from posewire.formats.base import PERSON, SCORE_DECIMALS, Format, FormatOptions, ImagePoses, clipped_box, inside
from posewire.formats.coco import JsonList
from posewire.registry.keypoint_sets import KeypointSet
from posewire.types import Pose, PoseResult

# The names of the tags in the labelling configuration.
_IMAGE: Final = "image"
_BOX: Final = "box"
_KEYPOINTS: Final = "keypoints"

_POINT_WIDTH: Final = 0.5  # percent of the image's width
_DECIMALS: Final = 4


class LabelStudioEncoder(JsonList):
    """Writes a task per image, with one prediction: a rectangle per person, and its keypoints as children of the rectangle.

    Label Studio shows nothing outside of the image: boxes are cut at its border, and keypoints outside are left out.
    """

    def __init__(self, options: FormatOptions) -> None:
        super().__init__()
        self._options = options

    def image(self, image: ImagePoses) -> bytes:
        """Return the task of an image."""
        result = image.result
        regions = [region for i, pose in enumerate(result.people) for region in self._regions(f"person-{i}", pose, result)]
        prediction: dict[str, Any] = {"model_version": self._options.model, "result": regions}
        if result.people:  # of a task, so that tasks can be sorted by it
            prediction["score"] = round(sum(pose.score for pose in result.people) / len(result.people), SCORE_DECIMALS)
        return self.rows([{"data": {_IMAGE: str(image.id)}, "predictions": [prediction]}])

    def _regions(self, region_id: str, pose: Pose, result: PoseResult) -> list[dict[str, Any]]:
        box = clipped_box(pose, result)
        if box is None:
            return []
        width, height = result.width, result.height
        x, y, w, h = box
        of_image = {"to_name": _IMAGE, "original_width": width, "original_height": height, "image_rotation": 0}
        value = {"x": _percent(x, width), "y": _percent(y, height), "width": _percent(w, width), "height": _percent(h, height)}
        rectangle = {
            **{"id": region_id, "type": "rectanglelabels", "from_name": _BOX},
            **of_image,
            "value": {**value, "rotation": 0, "rectanglelabels": [PERSON]},
            "score": round(pose.score, SCORE_DECIMALS),
        }
        kept = inside(pose, result, self._options.min_keypoint_score)
        values = zip(self._options.keypoints.names, pose.keypoints.xy.tolist(), pose.keypoints.scores.tolist(), kept, strict=True)
        points = [
            {
                **{"id": f"{region_id}-{name}", "parentID": region_id, "type": "keypointlabels", "from_name": _KEYPOINTS},
                **of_image,
                "value": {"x": _percent(px, width), "y": _percent(py, height), "width": _POINT_WIDTH, "keypointlabels": [name]},
                "score": round(score, SCORE_DECIMALS),
            }
            for name, (px, py), score, shown in values
            if shown
        ]
        return [rectangle, *points]


def _percent(value: float, of: int) -> float:
    return round(100 * value / of, _DECIMALS)


def labelling_config(keypoints: KeypointSet) -> str:
    """Return the labelling configuration (XML) of a Label Studio project that takes these predictions."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=_IMAGE, value=f"${_IMAGE}")
    boxes = ET.SubElement(view, "RectangleLabels", name=_BOX, toName=_IMAGE)
    ET.SubElement(boxes, "Label", value=PERSON)
    labels = ET.SubElement(view, "KeyPointLabels", name=_KEYPOINTS, toName=_IMAGE)
    for index, name in enumerate(keypoints.names):
        ET.SubElement(labels, "Label", value=name, model_index=str(index))  # the order in which Label Studio exports them to COCO
    ET.indent(view)
    return ET.tostring(view, encoding="unicode")


FORMAT = Format("labelstudio", "application/json", ".json", LabelStudioEncoder, units="percent", fixed_units=True)
