"""Folders of YOLO labels: one text file an image, with the image's name; all numbers are fractions of width and height.

An image without a label file is unlabelled and left out; an empty file says that nobody is there.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model_store.training.data.image_folders import SUFFIXES
from model_store.training.data.records import KEYPOINTS, Person, Scene, image_id
from model_store.training.data.unstretch import NONE, Sizes, true_image
from posewire.errors import PosewireError
from posewire.types import FloatArray


def load_people(
    images: Path,
    labels: Path,
    *,
    source: str,
    person_class: int = 0,
    least_keypoints: int = 3,
    least_height: float = 32,
    sizes: Sizes = NONE,
) -> list[Person]:
    """YOLO-pose: `class cx cy w h`, then x, y and visibility of the 17 keypoints.

    Args:
        images: the folder of the images.
        labels: the folder of the texts.
        source: what to call the set.
        person_class: the class that is a person.
        least_keypoints: annotated ones; a person with fewer teaches little.
        least_height: of the box, pixels.
        sizes: true ones of images that may be stretched.

    Raises:
        PosewireError: there are no labelled images, or a label is not such a line; names file and line.
    """
    people = []
    for path, text, rows in _labelled(images, labels):
        image, size, _ = true_image(path, sizes)
        for number, row in rows:
            if len(row) != 5 + 3 * KEYPOINTS:
                raise PosewireError(f"{text}, line {number}: {len(row)} numbers; a person of YOLO-pose has {5 + 3 * KEYPOINTS}")
            joints = np.array(row[5:], np.float32).reshape(KEYPOINTS, 3)
            box = _box(row[1:5], size)
            seen = joints[:, 2] > 0
            if row[0] == person_class and seen.sum() >= least_keypoints and box[3] >= least_height:
                xy = joints[:, :2] * size
                people.append(Person(image, box, xy, seen.astype(np.float32), source, image_id(path, source)))
    return people


def load_scenes(images: Path, labels: Path, *, source: str, person_class: int = 0, sizes: Sizes = NONE) -> list[Scene]:
    """YOLO detection (`class cx cy w h`), segmentation (`class`, then a polygon) or pose: the boxes of one class.

    Raises:
        PosewireError: as `load_people`.
    """
    scenes = []
    for path, text, rows in _labelled(images, labels):
        image, size, _ = true_image(path, sizes)
        boxes = [_box(_extent(row, text, number), size) for number, row in rows if row[0] == person_class]
        scenes.append(Scene(image, np.array(boxes, np.float32).reshape(-1, 4), source, image_id(path, source)))
    return scenes


def _labelled(images: Path, labels: Path) -> Iterator[tuple[Path, Path, list[tuple[int, list[float]]]]]:
    """Image, its label file and the numbered lines."""
    paths = sorted(path for path in images.glob("*") if path.suffix.lower() in SUFFIXES)
    pairs = [(path, labels / f"{path.stem}.txt") for path in paths]
    there = [(path, text) for path, text in pairs if text.is_file()]
    if not there:
        raise PosewireError(f"{images} has {len(paths)} images, but {labels} has no label for any of them")
    for path, text in there:
        rows = []
        for number, line in enumerate(text.read_text(errors="replace").splitlines(), 1):
            try:
                row = [float(word) for word in line.split()]
            except ValueError:
                raise PosewireError(f"{text}, line {number}: {line[:40]!r} is not a row of numbers") from None
            if row:
                rows.append((number, row))
        yield path, text, rows


def _extent(row: list[float], text: Path, number: int) -> list[float]:
    """Centre and size of a box, a polygon, or the box before keypoints."""
    if len(row) in {5, 5 + 3 * KEYPOINTS}:
        return row[1:5]
    if len(row) < 7 or len(row) % 2 == 0:
        raise PosewireError(f"{text}, line {number}: {len(row)} numbers are neither a box nor a polygon")
    corners = np.array(row[1:]).reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    return [*(low + high) / 2, *(high - low)]


def _box(centre_and_size: list[float], size: FloatArray) -> FloatArray:
    """Fractions cx cy w h to pixels x y w h, (4,) float32."""
    centre, extent = np.array(centre_and_size, np.float32).reshape(2, 2) * size
    return np.concatenate([centre - extent / 2, extent])
