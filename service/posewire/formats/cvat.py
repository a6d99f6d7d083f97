"""CVAT for images 1.1: https://docs.cvat.ai/docs/manual/advanced/xml_format/. A person is a skeleton of the label `person`."""

import json
import re
from typing import Final
from xml.etree import ElementTree as ET

import numpy as np

from posewire.formats.base import DECIMALS, PERSON, SCORE_DECIMALS, Format, FormatOptions, ImagePoses, inside
from posewire.registry.keypoint_sets import KeypointSet
from posewire.types import Pose, PoseResult

# Characters that XML 1.0 does not allow; the name of a file may have them.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_SCORE: Final = "score"


class CvatEncoder:
    """Writes an `image` per image, with a skeleton per person.

    CVAT needs every point of a skeleton. A keypoint that is missing or outside of the image has the mark `outside`, which hides it; it
    lies at the border or, if it is missing, in the middle of the person's box. CVAT has no box: it draws the one around the points.
    """

    def __init__(self, options: FormatOptions) -> None:
        self._options = options
        self._images = 0

    def head(self) -> bytes:
        """Return the beginning of the document with the labels."""
        root = ET.Element("annotations")
        ET.SubElement(root, "version").text = "1.1"
        task = ET.SubElement(ET.SubElement(root, "meta"), "task")
        ET.SubElement(task, "mode").text = "annotation"
        labels = ET.SubElement(task, "labels")
        _add_label(labels, PERSON, "skeleton", svg=_svg(self._options.keypoints))
        for name in self._options.keypoints.names:
            _add_label(labels, name, "points", parent=PERSON)
        ET.indent(root)
        document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
        return document.removesuffix(b"</annotations>")

    def image(self, image: ImagePoses) -> bytes:
        """Return the element of an image."""
        result = image.result
        attributes = {"id": str(self._images), "name": _NOT_IN_XML.sub("\ufffd", str(image.id))}
        element = ET.Element("image", attributes, width=str(result.width), height=str(result.height))
        for pose in result.people:
            self._add_skeleton(element, pose, result)
        self._images += 1
        ET.indent(element, level=1)
        written: bytes = ET.tostring(element, encoding="utf-8")
        return b"  " + written + b"\n"

    def tail(self) -> bytes:
        """Return the end of the document."""
        return b"</annotations>\n"

    def _add_skeleton(self, image: ET.Element, pose: Pose, result: PoseResult) -> None:
        skeleton = ET.SubElement(image, "skeleton", label=PERSON, source="auto", occluded="0", z_order="0")
        ET.SubElement(skeleton, "attribute", name=_SCORE).text = f"{pose.score:.{SCORE_DECIMALS}f}"
        x, y, w, h = pose.box_xywh.tolist()
        missing = np.isnan(pose.keypoints.scores)[:, None]
        xy = np.where(missing, [x + w / 2, y + h / 2], pose.keypoints.xy).clip(0, [result.width, result.height])
        kept = inside(pose, result, self._options.min_keypoint_score)
        for name, (px, py), shown in zip(self._options.keypoints.names, xy.tolist(), kept, strict=True):
            attributes = {"label": name, "source": "auto", "outside": str(int(not shown)), "occluded": "0"}
            ET.SubElement(skeleton, "points", attributes, points=f"{px:.{DECIMALS}f},{py:.{DECIMALS}f}")


def _add_label(labels: ET.Element, name: str, kind: str, *, parent: str | None = None, svg: str | None = None) -> None:
    label = ET.SubElement(labels, "label")
    ET.SubElement(label, "name").text = name
    ET.SubElement(label, "type").text = kind
    attributes = ET.SubElement(label, "attributes")
    if svg is not None:
        attribute = ET.SubElement(attributes, "attribute")
        for key, value in {**_SCORE_ATTRIBUTE, "mutable": "False"}.items():
            ET.SubElement(attribute, key).text = value
        ET.SubElement(label, "svg").text = svg
    if parent is not None:
        ET.SubElement(label, "parent").text = parent


# A number would need a smallest and a largest value and a step in whole numbers.
_SCORE_ATTRIBUTE: Final = {"name": _SCORE, "input_type": "text", "default_value": "", "values": ""}


def label_definition(keypoints: KeypointSet) -> str:
    """Return the label of a CVAT task or project that takes these skeletons: JSON for the tab `Raw` of the label editor."""
    label = {
        "name": PERSON,
        "type": "skeleton",
        "attributes": [{**_SCORE_ATTRIBUTE, "mutable": False, "values": [""]}],
        "sublabels": [{"name": name, "type": "points", "attributes": []} for name in keypoints.names],
        "svg": _svg(keypoints),
    }
    return json.dumps([label])


def _svg(keypoints: KeypointSet) -> str:
    """Return the template of the skeleton: points on a circle, in percent of a square, and the limbs between them."""
    count = len(keypoints.names)
    angles = 2 * np.pi * np.arange(count) / count
    places = np.stack([50 + 40 * np.sin(angles), 50 - 40 * np.cos(angles)], -1).round(2).tolist()
    lines = [
        f'<line x1="{places[a][0]}" y1="{places[a][1]}" x2="{places[b][0]}" y2="{places[b][1]}" stroke="black" stroke-width="0.5" '
        f'data-type="edge" data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        for a, b in keypoints.skeleton
    ]
    points = [
        f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x}" cy="{y}" stroke-width="0.1" data-type="element node" '
        f'data-element-id="{i}" data-node-id="{i}" data-label-name="{name}"></circle>'
        for i, (name, (x, y)) in enumerate(zip(keypoints.names, places, strict=True), 1)
    ]
    return "".join([*lines, *points])


FORMAT = Format("cvat", "application/xml", ".xml", CvatEncoder, fixed_units=True)
