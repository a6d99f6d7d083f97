"""Images to send, made from the repository's own: nothing else is needed."""

from pathlib import Path

import cv2
import numpy as np

from posewire.types import UInt8Array

ASTRONAUT = Path(__file__).parents[1] / "tests" / "data" / "astronaut.jpg"

# x0, x1 of the person in the astronaut's image, pixels.
_PERSON = slice(60, 380)
_CANVAS = (960, 1280)  # rows, columns
# How many columns make tiles that fill the canvas.
_COLUMNS = {1: 1, 2: 2, 4: 4, 8: 4, 16: 8, 32: 8}
PEOPLE = tuple(_COLUMNS)

# A crowd's people are small and some are doubted: the threshold lets more than all in, the cap makes the number exact.
CROWD_SCORE = 0.05


def single() -> bytes:
    """A JPEG of 512 x 512 with one person."""
    return ASTRONAUT.read_bytes()


def crowd(people: int) -> bytes:
    """A JPEG of 1280 x 960 on which `people` cut-outs of a person stand in rows.

    Raises:
        KeyError: not a number of `PEOPLE`.
    """
    columns = _COLUMNS[people]
    rows = people // columns
    person = _pixels()[:, _PERSON]
    height, width = _CANVAS
    scale = min(height / rows / person.shape[0], width / columns / person.shape[1])
    tile = cv2.resize(person, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.random.default_rng(1).normal(120, 4, (height, width, 3)).clip(0, 255).astype(np.uint8)
    for i in range(people):
        row, column = divmod(i, columns)
        y = round((row + 0.5) * height / rows - tile.shape[0] / 2)
        x = round((column + 0.5) * width / columns - tile.shape[1] / 2)
        canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile[:, ::-1] if i % 2 else tile
    return _jpeg(canvas)


def mixed() -> list[bytes]:
    """The single image at 256 to 2048 pixels a side and crowds of 2 to 8: small and large work in turn."""
    sizes = [cv2.resize(_pixels(), (side, side), interpolation=cv2.INTER_AREA) for side in (256, 512, 1024, 2048)]
    squares = [_jpeg(np.asarray(pixels, np.uint8)) for pixels in sizes]
    return [squares[0], crowd(2), squares[1], squares[3], crowd(4), squares[2], squares[0], crowd(8)]


def corrupt() -> list[bytes]:
    """Bodies in an image's place: cut short, noise in the middle, and no image at all."""
    whole = single()
    noise = bytearray(whole)
    noise[200:4000] = np.random.default_rng(2).bytes(3800)
    return [whole[: len(whole) // 3], bytes(noise), b"GIF89a" + bytes(200)]


def _pixels() -> UInt8Array:
    return np.asarray(cv2.imread(str(ASTRONAUT), cv2.IMREAD_COLOR), np.uint8)


def _jpeg(pixels: UInt8Array) -> bytes:
    return cv2.imencode(".jpg", pixels)[1].tobytes()
