"""COCO's official JSON of person keypoints (Lin et al., arXiv 1405.0312)."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from model_store.training.data.records import KEYPOINTS, Person, Scene, picture_id
from posewire.errors import PosewireError

_PERSON = 1


def load_people(
    annotations: Path, images: Path, *, source: str = "coco", least_keypoints: int = 3, least_height: float = 32
) -> list[Person]:
    """People with keypoints. Pictures that are not in the folder are left out, crowds too.

    Args:
        annotations: COCO's JSON.
        images: the folder of the pictures.
        source: what to call the set.
        least_keypoints: annotated ones; a person with fewer teaches little.
        least_height: of the box, pixels.

    Raises:
        PosewireError: the file is not COCO keypoints, or the folder has none of its pictures.
    """
    people = []
    for path, rows in _pictures(annotations, images):
        for row in rows:
            joints = np.array(row.get("keypoints", ()), np.float32).reshape(-1, 3)
            if len(joints) == KEYPOINTS and (joints[:, 2] > 0).sum() >= least_keypoints and row["bbox"][3] >= least_height:
                weights = (joints[:, 2] > 0).astype(np.float32)
                box = np.array(row["bbox"], np.float32)
                people.append(Person(path, box, joints[:, :2], weights, source, picture_id(path, source)))
    return people


def load_scenes(annotations: Path, images: Path, *, source: str = "coco") -> list[Scene]:
    """Pictures with the boxes of their people. Pictures that are not in the folder are left out, crowds too.

    Raises:
        PosewireError: as `load_people`.
    """
    return [
        Scene(path, np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4), source, picture_id(path, source))
        for path, rows in _pictures(annotations, images)
    ]


def _pictures(annotations: Path, images: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Every picture that is there, and the annotations of its people."""
    try:
        content = json.loads(annotations.read_bytes())
        rows = defaultdict(list)
        for row in content["annotations"]:
            if row["category_id"] == _PERSON and not row["iscrowd"] and len(row["bbox"]) == 4:
                rows[row["image_id"]].append(row)
        named = [(images / picture["file_name"], rows[picture["id"]]) for picture in content["images"]]
    except OSError as error:
        raise PosewireError(f"{annotations} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PosewireError(f"{annotations} is not COCO's JSON of person keypoints: {type(error).__name__}: {error}") from None
    there = [(path, people) for path, people in named if path.is_file()]
    if named and not there:
        raise PosewireError(f"{images} has none of the {len(named)} pictures that {annotations} names")
    yield from there
