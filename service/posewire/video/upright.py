"""Frames as they are shown: square pixels, and the turn or mirror image that the file asks for."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from posewire.types import UInt8Array

Turn = npt.NDArray[np.int8]  # (2, 2), one 1 or -1 in each row and column: pixels (x, y) of a coded frame -> of an upright one

UNTURNED: Turn = np.eye(2, dtype=np.int8)

# Pixels of another shape are a mistake in the file: the widest in use are 2:1, of two images side by side.
_MAX_ASPECT = 4


def turn_of(display_matrix: bytes) -> Turn:
    """Return the quarter turn or mirror image that is nearest to a display matrix.

    Args:
        display_matrix: nine 32-bit integers, row after row, as in FFmpeg's `AV_PKT_DATA_DISPLAYMATRIX`:
            x' = a x + c y and y' = b x + d y, with a and b in the first row, c and d in the second.
    """
    if len(display_matrix) != 36:
        return UNTURNED
    values = np.frombuffer(display_matrix, np.int32).reshape(3, 3)[:2, :2].T.astype(np.int64)
    across, along = np.abs(np.diag(values)).sum(), np.abs(np.diag(values[::-1])).sum()
    mask = np.eye(2, dtype=np.int8) if across >= along else np.eye(2, dtype=np.int8)[::-1]
    turn = (np.where(values < 0, -1, 1) * mask).astype(np.int8)
    return turn if across or along else UNTURNED


def turned(pixels: UInt8Array, turn: Turn) -> UInt8Array:
    """Return a frame (H, W, 3) turned and mirrored; contiguous."""
    if not turn[0, 0]:
        pixels = pixels.swapaxes(0, 1)
    x, y = turn.sum(axis=1)
    return np.ascontiguousarray(pixels[:: int(y), :: int(x)])


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Return the width and height at which a frame has square pixels; the longer side of its pixels decides, so nothing is lost.

    Args:
        width: pixels, as coded.
        height: pixels, as coded.
        aspect: width of a pixel divided by its height; None, or beyond 1:4 and 4:1: taken for 1.
    """
    if not aspect or not Fraction(1, _MAX_ASPECT) <= aspect <= _MAX_ASPECT:
        return width, height
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))
