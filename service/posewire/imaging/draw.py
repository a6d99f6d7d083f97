"""Draw skeletons on an image, and encode the image."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from posewire.errors import TooLarge
from posewire.types import FloatArray, Pose, UInt8Array

ImageType: TypeAlias = Literal["image/jpeg", "image/png"]
_Color: TypeAlias = tuple[int, int, int]  # RGB
_Point: TypeAlias = tuple[float, float] | npt.NDArray[np.float64]  # x y, pixels of the image

# Colour-blind people can tell blue from orange; the outline keeps both visible on any background.
_LEFT: _Color = (255, 145, 20)
_MIDDLE: _Color = (245, 245, 240)
_RIGHT: _Color = (40, 175, 255)
_CORE: _Color = (255, 255, 255)  # of a keypoint
_OUTLINE: _Color = (18, 20, 28)
_COLORS = (_MIDDLE, _LEFT, _RIGHT)  # by side: 0, 1 and -1

_SMALL = 0.35  # size of a small keypoint and of its limbs, of the others
_CORE_MIN_RADIUS = 3.0  # pixels; in smaller dots the core would hide the colour
_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates: 1/16 pixel
_JPEG_QUALITY = 90
_JPEG_MAX_SIDE = 65500  # pixels; libjpeg's limit


def sides_of(names: Sequence[str]) -> tuple[int, ...]:
    """Return the side of each keypoint from its name: 1 for `left_…`, -1 for `right_…`, 0 for the middle."""
    return tuple(1 if name.startswith("left_") else -1 if name.startswith("right_") else 0 for name in names)


@dataclass(frozen=True, slots=True)
class Look:
    """How the K keypoints of a set are drawn."""

    skeleton: tuple[tuple[int, int], ...]  # limbs as pairs of keypoint indices
    colors: tuple[_Color, ...]  # K
    limb_colors: tuple[_Color, ...]  # of each limb
    small: tuple[bool, ...]  # K

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        skeleton: Sequence[tuple[int, int]],
        colors: Sequence[_Color | None] = (),
        small: Collection[int] = (),
    ) -> Self:
        """Return the look of a keypoint set.

        Args:
            names: of the keypoints; the person's left is orange, right blue, the middle white.
            skeleton: limbs as pairs of keypoint indices.
            colors: of each keypoint; None: by its side. Empty: all by their sides. A limb has the colour of its end, else of its begin.
            small: indices of keypoints that lie close together; they and the limbs between them are drawn smaller.
        """
        sides, own = sides_of(names), colors or (None,) * len(names)
        return cls(
            tuple(skeleton),
            tuple(color or _COLORS[side] for color, side in zip(own, sides, strict=True)),
            tuple(own[b] or own[a] or _COLORS[_limb_side(sides[a], sides[b])] for a, b in skeleton),
            tuple(index in small for index in range(len(names))),
        )


def draw_poses(pixels: UInt8Array, people: Sequence[Pose], look: Look, *, min_keypoint_score: float) -> UInt8Array:
    """Draw every person's box, limbs and keypoints; the first person is drawn on top.

    Args:
        pixels: (H, W, 3) uint8, RGB; is not changed.
        people: best first, in pixels of this image; points outside the image or not finite are left out.
        look: of their keypoints.
        min_keypoint_score: 0..1; keypoints below it, and their limbs, are left out.

    Returns:
        (H, W, 3) uint8, RGB, a new array.
    """
    canvas = pixels.copy()
    for person in reversed(people):
        width = _line_width(person.box_xywh, canvas)
        _draw_box(canvas, person.box_xywh, max(1, round(width / 4)))
        shown = np.asarray(person.keypoints.scores >= min_keypoint_score)
        points = np.where(shown[:, None], person.keypoints.xy, np.nan).astype(np.float64)
        _draw_skeleton(canvas, points, look, width)
    return canvas


def draw_track_ids(canvas: UInt8Array, people: Sequence[Pose]) -> None:
    """Write each person's `track_id` at the top left of their box; the background colour depends on the `track_id` alone.

    Args:
        canvas: (H, W, 3) uint8, RGB; is changed in place.
        people: in pixels of this image; people without a `track_id` are left out.
    """
    scale = max(0.4, min(canvas.shape[:2]) / 1000)
    for person in people:
        if person.track_id is None or not np.isfinite(person.box_xywh).all():
            continue
        text = str(person.track_id)
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        room = (canvas.shape[1] - width - 4, canvas.shape[0] - below)
        x, y = (round(min(max(float(at), 0), max(limit, 0))) for at, limit in zip(person.box_xywh[:2], room, strict=True))
        y = max(y, height + 4)
        cv2.rectangle(canvas, (x, y - height - 4), (x + width + 4, y + below - 2), _track_color(person.track_id), cv2.FILLED)
        cv2.putText(canvas, text, (x + 2, y - 2), cv2.FONT_HERSHEY_SIMPLEX, scale, _OUTLINE, 1, cv2.LINE_AA)


def _track_color(track_id: int) -> _Color:
    """Return a bright colour; the golden angle makes consecutive ids differ clearly."""
    hue = round(track_id * 137.508 / 2) % 180  # a unit of OpenCV's hue is two degrees
    red, green, blue = cv2.cvtColor(np.array([[[hue, 140, 255]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def encode(pixels: UInt8Array, media_type: ImageType) -> bytes:
    """Encode an image, JPEG at quality 90.

    Args:
        pixels: (H, W, 3) uint8, RGB.
        media_type: `image/jpeg` or `image/png`.

    Raises:
        TooLarge: a side is longer than JPEG allows.
    """
    if media_type == "image/jpeg" and max(pixels.shape[:2]) > _JPEG_MAX_SIDE:
        raise TooLarge(f"JPEG holds at most {_JPEG_MAX_SIDE} pixels a side; ask for image/png")
    kind, options = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]) if media_type == "image/jpeg" else (".png", [])
    _, data = cv2.imencode(kind, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def _line_width(box_xywh: FloatArray, canvas: UInt8Array) -> float:
    """Return a line width in pixels; it grows with the person, and stays visible when the whole image is viewed."""
    height, width = canvas.shape[:2]
    _, _, w, h = (float(v) for v in box_xywh)
    person = math.sqrt(w * h) if w > 0 and h > 0 and math.isfinite(w * h) else 0.0
    shorter = float(min(height, width))
    return max(1.5, shorter / 350, min(person, shorter) / 80)


def _draw_skeleton(canvas: UInt8Array, points: npt.NDArray[np.float64], look: Look, width: float) -> None:
    """Draw one person's limbs and keypoints; `points` is (K, 2), NaN for those not shown.

    All outlines are drawn before all colours, so that no outline crosses a joint.
    """
    seen = np.asarray(np.isfinite(points).all(1))
    widths = [width * (_SMALL if small else 1) for small in look.small]
    limbs = [
        (a, b, color, max(widths[a], widths[b]))
        for (a, b), color in zip(look.skeleton, look.limb_colors, strict=True)
        if seen[a] and seen[b]
    ]
    dots = np.flatnonzero(seen).tolist()
    for a, b, _, line in limbs:
        _draw_line(canvas, points[a], points[b], _OUTLINE, line + 2 * _rim(line))
    for k in dots:
        _draw_dot(canvas, points[k], _OUTLINE, widths[k] * 1.2 + _rim(widths[k]))
    for a, b, color, line in limbs:
        _draw_line(canvas, points[a], points[b], color, line)
    for k in dots:
        radius = widths[k] * 1.2
        _draw_dot(canvas, points[k], look.colors[k], radius)
        if radius > _CORE_MIN_RADIUS:
            _draw_dot(canvas, points[k], _CORE, radius * 0.5)


def _rim(width: float) -> float:
    """Return the width of the outline on either side of a line."""
    return max(1.0, width * 0.4)


def _limb_side(a: int, b: int) -> int:
    """Return the side of a limb: that of its ends, or the middle if it crosses the body."""
    return 0 if a == -b else a or b


def _draw_box(canvas: UInt8Array, box_xywh: FloatArray, width: int) -> None:
    """Draw a thin frame with a dark outline; a box without area is left out."""
    x, y, w, h = (float(v) for v in box_xywh)
    if not (w > 0 and h > 0 and math.isfinite(x + y + w + h)):
        return
    corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    for color, thickness in ((_OUTLINE, width + 2), (_MIDDLE, width)):
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            _draw_line(canvas, start, end, color, thickness)


def _draw_line(canvas: UInt8Array, start: _Point, end: _Point, color: _Color, width: float) -> None:
    clipped = _clip_line(start, end, canvas, width)
    if clipped is not None:
        cv2.line(canvas, _fixed(clipped[0]), _fixed(clipped[1]), color, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _draw_dot(canvas: UInt8Array, center: _Point, color: _Color, radius: float) -> None:
    height, width = canvas.shape[:2]
    if -radius <= center[0] <= width + radius and -radius <= center[1] <= height + radius:
        cv2.circle(canvas, _fixed(center), round(radius * (1 << _SHIFT)), color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _fixed(point: _Point) -> tuple[int, int]:
    return round(point[0] * (1 << _SHIFT)), round(point[1] * (1 << _SHIFT))


def _clip_line(start: _Point, end: _Point, canvas: UInt8Array, margin: float) -> tuple[_Point, _Point] | None:
    """Return the part of a line within the image and a margin around it (Liang and Barsky); None if there is no such part.

    OpenCV raises on coordinates beyond 32 bits. The margin keeps the ends of a clipped line outside the image.
    """
    low, high = 0.0, 1.0
    for axis, size in ((0, canvas.shape[1]), (1, canvas.shape[0])):
        delta = end[axis] - start[axis]
        for step, room in ((-delta, start[axis] + margin), (delta, size + margin - start[axis])):
            if step == 0 and room < 0:
                return None
            if step < 0:
                low = max(low, room / step)
            elif step > 0:
                high = min(high, room / step)
    if low > high:
        return None
    x, y = end[0] - start[0], end[1] - start[1]
    return (start[0] + low * x, start[1] + low * y), (start[0] + high * x, start[1] + high * y)
