"""Images that a public copy of a set has stretched, most to squares, back in their own shape.

A table of true sizes says what the shape was. A person in a stretched image is a person of another build: what learns from it learns
wrong proportions.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from model_store.training.data.records import StoredImage, Stretched, coco_number
from posewire.errors import PosewireError
from posewire.types import FloatArray

# Width and height by the COCO number of an image.
Sizes: TypeAlias = Mapping[str, tuple[int, int]]

# How far, of the true aspect, that of the file may be from it: copies are made smaller to whole pixels.
_TOLERANCE = 0.03
_ROW = re.compile(r"(\d{12})\t(\d+)\t(\d+)")
NONE: Sizes = {}


@cache
def load_sizes(file: Path) -> Sizes:
    """Read a table: a line an image, `id`, `width` and `height` with tabs between; lines that begin otherwise are headings.

    Raises:
        PosewireError: it cannot be read, or a line is none of these; names the line.
    """
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise PosewireError(f"{file} cannot be read: {error.strerror}") from None
    sizes = {}
    for number, line in enumerate(lines, 1):
        row = _ROW.fullmatch(line)
        if row is not None and int(row[2]) and int(row[3]):
            sizes[row[1]] = int(row[2]), int(row[3])
        elif line[:1].isdigit():
            raise PosewireError(f"{file}, line {number}: {line[:40]!r} is not an id of twelve digits, a width and a height")
    return sizes


def true_image(path: Path, sizes: Sizes) -> tuple[StoredImage, FloatArray, FloatArray]:
    """A file as it is to be read.

    Args:
        path: of an image.
        sizes: true ones; those of other images do no harm.

    Returns:
        The image, its width and height (2,), and the width and height of the file (2,): float32 pixels. Both sizes are the same where
        nothing was stretched. The shorter side of a stretched image stays as long as it is in the file.

    Raises:
        PosewireError: the file is no image.
    """
    stored = stored_size(path)
    size = sizes.get(coco_number(path) or "")
    if size is None:
        return path, stored, stored
    aspect, shorter = size[0] / size[1], float(stored.min())
    if abs(float(stored[0] / stored[1]) - aspect) <= _TOLERANCE * aspect:
        return path, stored, stored
    width, height = (round(shorter * aspect), round(shorter)) if aspect >= 1 else (round(shorter), round(shorter / aspect))
    return Stretched(path, width, height), np.array([width, height], np.float32), stored


def stored_size(path: Path) -> FloatArray:
    """Width and height of a file, pixels, (2,) float32; only the header is read.

    Raises:
        PosewireError: the file is no image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.size, np.float32)
    except OSError:
        raise PosewireError(f"{path} is not an image that can be read: put it back or take it out of the set") from None
