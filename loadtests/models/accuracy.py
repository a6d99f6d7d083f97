"""COCO AP: of a pose network's keypoints on people whose boxes are given, and of a detector's boxes."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from loadtests.models.engines import Run
from loadtests.models.networks import BlazePose, Network
from posewire.imaging.geometry import apply_affine, invert_affine, xyxy_to_xywh
from posewire.pipeline.detector import Detector
from posewire.tools.evaluate.annotations import Annotations, Row
from posewire.types import FloatArray, Frame

# As `posewire evaluate`.
_MIN_SCORE = 0.001  # of a box
_MOST_PEOPLE = 100  # of an image
_COUNTED_SCORE = 0.2  # as in the service: keypoints below it say nothing of the person


class People:
    """The annotated people of a folder in COCO's layout: `images/` and `person_keypoints.json`."""

    def __init__(self, folder: Path) -> None:
        self._data = Annotations(folder / "person_keypoints.json", folder / "images")
        self._frames = [
            (image, Frame(np.asarray(cv2.imread(str(image.path), cv2.IMREAD_COLOR_RGB), np.uint8))) for image in self._data.images
        ]
        self._all = [(image.image_id, frame, box) for image, frame in self._frames for box in image.boxes_xywh]

    def __len__(self) -> int:
        return len(self._all)

    def first(self) -> tuple[Frame, FloatArray]:
        """An image and the box of someone on it."""
        _, frame, box = self._all[0]
        return frame, box

    def score(self, network: Network, run: Run, *, looks: int = 1) -> Mapping[str, float]:
        """AP, AR and the rest; with a second look BlazePose sees what it would see of the next frame."""
        return self._data.keypoint_ap([_row(network, run, looks, *person) for person in self._all])

    @property
    def images(self) -> int:
        """How many images there are, with or without people."""
        return len(self._frames)

    def score_boxes(self, detector: Detector) -> Mapping[str, float]:
        """Box AP, AR and the rest of a person detector on all images."""
        return self._data.box_ap([row for image, frame in self._frames for row in _boxes(detector, image.image_id, frame)])


def _boxes(detector: Detector, image_id: int, frame: Frame) -> list[Row]:
    letterboxed = detector.preprocess(frame)
    (raw,) = detector.infer([letterboxed.pixels])
    found = detector.postprocess(raw, letterboxed.scale, frame, _MIN_SCORE, _MOST_PEOPLE)
    boxes_xywh = xyxy_to_xywh(found.boxes_xyxy)
    return [{"image_id": image_id, "bbox": b.tolist(), "box_score": float(s)} for b, s in zip(boxes_xywh, found.scores, strict=True)]


def _row(network: Network, run: Run, looks: int, image_id: int, frame: Frame, box: FloatArray) -> Row:
    affine = network.affine(box)
    outputs = run(network.tensor(frame, affine))
    for _ in range(looks - 1):
        assert isinstance(network, BlazePose)
        affine = network.next_affine(outputs, affine)
        outputs = run(network.tensor(frame, affine))
    found = network.keypoints(outputs)
    xy = apply_affine(invert_affine(affine), found.xy)
    counted = found.scores[found.scores > _COUNTED_SCORE]
    return {
        "image_id": image_id,
        "category_id": 1,
        "score": float(counted.mean()) if len(counted) else 0.0,
        "keypoints": np.concatenate([xy, found.scores[:, None]], 1).reshape(-1).tolist(),
    }
