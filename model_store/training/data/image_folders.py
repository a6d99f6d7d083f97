"""Folders of images without annotations: of nobody, or for a teacher to look at."""

from pathlib import Path

import numpy as np

from model_store.training.data.records import Scene, image_id
from model_store.training.data.unstretch import NONE, Sizes, true_image
from posewire.errors import PosewireError

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def load_scenes(images: Path, *, source: str, nobody: bool = False, most: int | None = None, sizes: Sizes = NONE) -> list[Scene]:
    """The images of a folder and of those below it.

    Args:
        images: the folder.
        source: what to call the set.
        nobody: there are no people in them; else nobody has said who is.
        most: so many of them, the same ones every time; None: all.
        sizes: true ones of images that may be stretched.

    Raises:
        PosewireError: there are no images.
    """
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise PosewireError(f"{images} has no images")
    if most is not None and most < len(found):
        found = [found[n] for n in sorted(np.random.default_rng(0).permutation(len(found))[:most])]
    boxes = np.zeros((0, 4), np.float32)
    return [Scene(true_image(path, sizes)[0] if sizes else path, boxes, source, image_id(path, source), nobody) for path in found]
