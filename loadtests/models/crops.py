"""Square cut-outs of people: affines (2, 3) float32 from pixels of the image to pixels of the cut-out."""

import math

import numpy as np

from posewire.types import FloatArray


def square_affine(box_xywh: FloatArray, side: int, margin: float) -> FloatArray:
    """The person in the middle of an upright square.

    Args:
        box_xywh: (4,) pixels of the image.
        side: of the cut-out, pixels.
        margin: side of the square over the longer side of the box.
    """
    x, y, w, h = (float(v) for v in box_xywh)
    return _affine(x + w / 2, y + h / 2, margin * max(w, h, 1.0), 0.0, side)


def circle_affine(centre: FloatArray, rim: FloatArray, side: int, margin: float) -> FloatArray:
    """The square around the circle that BlazePose puts around a person, turned so that the person stands upright.

    Args:
        centre: (2,) middle of the hips, pixels of the image.
        rim: (2,) the point of the circle above the head, pixels of the image.
        side: of the cut-out, pixels.
        margin: side of the square over the circle's diameter.
    """
    dx, dy = (float(v) for v in rim - centre)
    turned = math.pi / 2 - math.atan2(-dy, dx)
    return _affine(float(centre[0]), float(centre[1]), margin * 2 * max(math.hypot(dx, dy), 1.0), turned, side)


def _affine(cx: float, cy: float, length: float, turned: float, side: int) -> FloatArray:
    """`turned`: radians, clockwise as the image shows it, from upright to the person."""
    scale = side / length
    cos, sin = scale * math.cos(turned), scale * math.sin(turned)
    return np.array(
        [[cos, sin, side / 2 - cos * cx - sin * cy], [-sin, cos, side / 2 + sin * cx - cos * cy]],
        np.float32,
    )
