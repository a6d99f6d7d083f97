"""People as one file: what a teacher's labels are kept in, so that they are made once."""

import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model_store.training.data.records import KEYPOINTS, Person, StoredImage, coco_number, image_id
from model_store.training.data.unstretch import NONE, Sizes, true_image
from posewire.errors import PosewireError
from posewire.files import write_atomically
from posewire.imaging.geometry import xywh_to_xyxy, xyxy_to_xywh
from posewire.types import FloatArray


def save_people(people: Sequence[Person], file: Path, root: Path) -> None:
    """Write people to a .npz: `path` from `root`, `box` (n, 4) x0 y0 x1 y1, `kp` (n, 17, 3) x, y, weight, and `source`.

    Raises:
        PosewireError: a person's image is no file, or the file cannot be written.
    """
    paths = [p.image for p in people if isinstance(p.image, Path)]
    if len(paths) < len(people):
        raise PosewireError(f"{len(people) - len(paths)} of {len(people)} people are not on images that are files")
    boxes = np.array([p.box_xywh for p in people], np.float32).reshape(-1, 4)
    keypoints = [np.concatenate([p.keypoints_xy, p.weights[:, None]], 1) for p in people]
    data = io.BytesIO()
    np.savez_compressed(
        data,
        path=np.array([Path(os.path.relpath(p, root)).as_posix() for p in paths], np.str_),
        box=xywh_to_xyxy(boxes),
        kp=np.array(keypoints, np.float32).reshape(-1, KEYPOINTS, 3),
        source=np.array([p.source for p in people], np.str_),
    )
    write_atomically(file, data.getvalue())


def load_people(file: Path, root: Path, sizes: Sizes = NONE) -> list[Person]:
    """What `save_people` wrote. People whose images are not under `root` are left out; a `tag` (n,) does for `source`.

    Args:
        file: of people, whose coordinates are pixels of the files.
        root: where its paths start.
        sizes: true ones of images that may be stretched.

    Raises:
        PosewireError: the file is not such a file, or `root` has none of its images.
    """
    try:
        with np.load(file) as content:
            paths, boxes, keypoints = content["path"].tolist(), xyxy_to_xywh(content["box"]), np.asarray(content["kp"], np.float32)
            sources = [str(source) for source in content["source" if "source" in content else "tag"].tolist()]
        if keypoints.shape != (len(paths), KEYPOINTS, 3) or boxes.shape != (len(paths), 4) or len(sources) != len(paths):
            raise ValueError(f"{len(paths)} paths, boxes {boxes.shape}, keypoints {keypoints.shape}")
    except OSError as error:
        raise PosewireError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise PosewireError(f"{file} is not a file of labelled people: {type(error).__name__}: {error}") from None
    there = {path: (root / path).is_file() for path in set(paths)}
    if paths and not any(there.values()):
        raise PosewireError(f"{root} has none of the {len(there)} images that {file} names")
    shapes = {path: _shape(root / path, sizes) for path, is_there in there.items() if is_there}
    return [
        Person(image, box * np.tile(scale, 2), kp[:, :2] * scale, np.clip(kp[:, 2], 0, 1), source, image_id(root / path, source))
        for path, box, kp, source in zip(paths, boxes, keypoints, sources, strict=True)
        if path in shapes
        for image, scale in [shapes[path]]
    ]


def _shape(path: Path, sizes: Sizes) -> tuple[StoredImage, FloatArray]:
    """An image in its own shape, and by how much its pixels are more than the file's, (2,)."""
    if coco_number(path) not in sizes:
        return path, np.ones(2, np.float32)
    image, size, stored = true_image(path, sizes)
    return image, size / stored
