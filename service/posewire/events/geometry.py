"""Pure functions on points. All take and return plain floats; y points down, as in images."""

import math
from collections.abc import Sequence
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]


def inside(polygon: Sequence[Point], point: Point) -> bool:
    """Return whether a point is in a polygon, by the even-odd rule.

    Args:
        polygon: at least three corners, in order; it may be concave.
        point: in the same frame.
    """
    x, y = point
    odd = False
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            odd = not odd
    return odd


def side(start: Point, end: Point, point: Point) -> float:
    """Return the distance of a point from the straight line through two others.

    It is positive on the right of someone who looks from start to end.
    """
    dx, dy = end[0] - start[0], end[1] - start[1]
    return (dx * (point[1] - start[1]) - dy * (point[0] - start[0])) / math.hypot(dx, dy)


def crosses(start: Point, end: Point, before: Point, after: Point) -> bool:
    """Return whether the way from `before` to `after`, on two sides of the line through start and end, passes between these two."""
    d0, d1 = side(start, end, before), side(start, end, after)
    if d0 == d1:
        return False
    share = d0 / (d0 - d1)
    x, y = before[0] + share * (after[0] - before[0]), before[1] + share * (after[1] - before[1])
    dx, dy = end[0] - start[0], end[1] - start[1]
    return 0 <= (x - start[0]) * dx + (y - start[1]) * dy <= dx * dx + dy * dy


def angle_deg(a: Point, b: Point, c: Point) -> float:
    """Return the angle at b between the directions to a and to c: 0..180 degrees; 180 is straight."""
    first, second = math.atan2(a[1] - b[1], a[0] - b[0]), math.atan2(c[1] - b[1], c[0] - b[0])
    between = abs(math.degrees(first - second)) % 360
    return min(between, 360 - between)


def tilt_deg(lower: Point, upper: Point) -> float:
    """Return the angle from the vertical of the direction from one point to another: 0 is straight up, 180 straight down, in degrees."""
    return abs(math.degrees(math.atan2(upper[0] - lower[0], lower[1] - upper[1])))


def middle(a: Point, b: Point) -> Point:
    """Return the point between two others."""
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
