"""Sets in COCO's layout made of images that are in the repository, and answers to them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posewire.tools.evaluate.annotations import Row
from tests.sample_images import astronaut, encode, landscape

# The astronaut as a person would annotate her: x, y, visibility; her right elbow is hidden, her legs are out of the image.
KEYPOINTS = [
    *(224, 116, 2, 246, 101, 2, 204, 99, 2, 272, 114, 2, 172, 106, 2, 306, 228, 2, 124, 206, 2, 350, 370, 2, 60, 340, 1),
    *(260, 430, 2, 165, 440, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
]
BOX = [20.0, 5.0, 380.0, 505.0]


def annotation(number: int, image: int, **changes: object) -> dict[str, Any]:
    """The astronaut as COCO annotates a person."""
    seen = sum(v > 0 for v in KEYPOINTS[2::3])
    row = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": BOX, "area": 110_000.0}
    return row | {"keypoints": KEYPOINTS, "num_keypoints": seen} | changes


def make_set(folder: Path, annotations: Sequence[dict[str, Any]], people: int = 1, first_id: int = 1) -> Path:
    """`people` images of the astronaut and one of nobody in `images/`, beside `annotations.json`, whose path it gives."""
    (folder / "images").mkdir(parents=True)
    names = [f"{first_id + i}.jpg" for i in range(people)]
    pixels = astronaut()
    pixels[0, 0] = first_id  # so that sets of other ids have other images
    for name in names:
        (folder / "images" / name).write_bytes(encode(pixels))
    (folder / "images" / "nobody.jpg").write_bytes(encode(landscape(640 + first_id)))
    images = [{"id": first_id + i, "file_name": name, "width": 512, "height": 512} for i, name in enumerate(names)]
    images.append({"id": first_id + people, "file_name": "nobody.jpg", "width": 640 + first_id, "height": 480})
    person = {"id": 1, "name": "person"}
    content = {"info": {}, "images": images, "annotations": list(annotations), "categories": [person]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def answer(image: int, keypoints: Sequence[float], score: float = 0.9, bbox: Sequence[float] = BOX) -> Row:
    """A row whose 17 keypoints are at x y, each of this score."""
    flat = [value for x, y in zip(keypoints[0::3], keypoints[1::3], strict=True) for value in (x, y, score)]
    return {"image_id": image, "category_id": 1, "keypoints": flat, "score": score, "box_score": score, "bbox": list(bbox)}
