"""COCO's official JSON of person keypoints (Lin et al., arXiv 1405.0312)."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_store.training.data.records import KEYPOINTS, Person, Scene, StoredImage, coco_number, image_id
from model_store.training.data.unstretch import NONE, Sizes, true_image
from posewire.errors import PosewireError
from posewire.types import FloatArray

_PERSON = 1


def load_people(
    annotations: Path,
    images: Path,
    *,
    source: str = "coco",
    least_keypoints: int = 3,
    least_height: float = 32,
    sizes: Sizes = NONE,
) -> list[Person]:
    """People with keypoints. Images that are not in the folder are left out, crowds too.

    Args:
        annotations: COCO's JSON.
        images: the folder of the images.
        source: what to call the set.
        least_keypoints: annotated ones; a person with fewer teaches little.
        least_height: of the box, pixels.
        sizes: true ones of images that may be stretched.

    Raises:
        PosewireError: the file is not COCO keypoints, or the folder has none of its images.
    """
    people = []
    for found, rows in _images(annotations, images, sizes):
        for row in rows:
            joints = np.array(row.get("keypoints", ()), np.float32).reshape(-1, 3)
            box = np.array(row["bbox"], np.float32) * np.tile(found.scale, 2)
            if len(joints) == KEYPOINTS and (joints[:, 2] > 0).sum() >= least_keypoints and box[3] >= least_height:
                weights = (joints[:, 2] > 0).astype(np.float32)
                people.append(Person(found.image, box, joints[:, :2] * found.scale, weights, source, image_id(found.path, source)))
    return people


def load_scenes(annotations: Path, images: Path, *, source: str = "coco", sizes: Sizes = NONE) -> list[Scene]:
    """Images with the boxes of their people. Images that are not in the folder are left out, crowds too.

    Raises:
        PosewireError: as `load_people`.
    """
    return [
        Scene(found.image, _boxes(rows) * np.tile(found.scale, 2), source, image_id(found.path, source))
        for found, rows in _images(annotations, images, sizes)
    ]


@dataclass(frozen=True, slots=True)
class _Found:
    """An image that is there."""

    path: Path
    image: StoredImage
    scale: FloatArray  # (2,) float32: pixels of the image by those of the annotation, x and y


def _boxes(rows: Sequence[dict[str, Any]]) -> FloatArray:
    return np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)


def _images(annotations: Path, images: Path, sizes: Sizes) -> Iterator[tuple[_Found, list[dict[str, Any]]]]:
    """Every image that is there, and the annotations of its people."""
    try:
        content = json.loads(annotations.read_bytes())
        rows = defaultdict(list)
        for row in content["annotations"]:
            if row["category_id"] == _PERSON and not row["iscrowd"] and len(row["bbox"]) == 4:
                rows[row["image_id"]].append(row)
        named = [
            (images / image["file_name"], np.array([image.get("width", 0), image.get("height", 0)], np.float32), rows[image["id"]])
            for image in content["images"]
        ]
    except OSError as error:
        raise PosewireError(f"{annotations} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PosewireError(f"{annotations} is not COCO's JSON of person keypoints: {type(error).__name__}: {error}") from None
    there = [(path, size, people) for path, size, people in named if path.is_file()]
    if named and not there:
        raise PosewireError(f"{images} has none of the {len(named)} images that {annotations} names")
    for path, size, people in there:
        yield _found(path, size, sizes), people


def _found(path: Path, annotated: FloatArray, sizes: Sizes) -> _Found:
    """Annotations are drawn on the image as COCO has it, whatever a copy is like."""
    number = coco_number(path)
    if number is None or number not in sizes:
        return _Found(path, path, np.ones(2, np.float32))
    image, size, _ = true_image(path, sizes)
    return _Found(path, image, size / (annotated if annotated.all() else size))
