"""A drawn person who moves, made here: the shipped models find the keypoints within a few degrees of the drawn angles."""

import cv2
import numpy as np

from posewire.types import UInt8Array
from tests.sample_images import landscape

WIDTH, HEIGHT = 400, 480

_SCALE = 2  # the drawing is larger than the image, so that its edges are smooth
_SKIN, _SHIRT, _TROUSERS, _HAIR, _SHOES, _DARK = (224, 172, 140), (60, 80, 170), (50, 50, 60), (60, 40, 30), (30, 30, 30), (40, 40, 60)

_Point = tuple[float, float]
_Color = tuple[int, int, int]  # RGB


def person(arm_degrees: float = 12, knee_degrees: float = 175) -> UInt8Array:
    """Someone who stands in a meadow and looks at the camera.

    Args:
        arm_degrees: of both arms from the trunk; 0: they hang down.
        knee_degrees: the angle of both knees, which point outwards; 180: the legs are straight.

    Returns:
        (HEIGHT, WIDTH, 3) uint8, RGB.
    """
    canvas = np.asarray(cv2.resize(landscape(WIDTH, HEIGHT), (WIDTH * _SCALE, HEIGHT * _SCALE)), np.uint8)
    middle, bend, arm = WIDTH / 2, np.radians(180 - knee_degrees) / 2, np.radians(arm_degrees)
    hips = 270 + 160 * (1 - np.cos(bend))
    shoulders = hips - 110
    for side in (-1, 1):
        hip, ankle = (middle + side * 20, hips), (middle + side * 20, 430.0)
        knee = (hip[0] + side * 80 * np.sin(bend), hips + 80 * np.cos(bend))
        _limb(canvas, hip, knee, (19, 14), _TROUSERS)
        _limb(canvas, knee, ankle, (14, 9), _TROUSERS)
        _limb(canvas, ankle, (ankle[0] + side * 10, ankle[1] + 8), (8, 7), _SHOES)
    _limb(canvas, (middle, shoulders + 5), (middle, shoulders - 30), (11, 10), _SKIN)
    trunk = np.array([[middle - 34, shoulders], [middle + 34, shoulders], [middle + 30, hips], [middle - 30, hips]])
    cv2.fillPoly(canvas, [(trunk * _SCALE).astype(np.int32)], _SHIRT, cv2.LINE_AA)
    _limb(canvas, (middle - 28, shoulders + 4), (middle + 28, shoulders + 4), (12, 12), _SHIRT)
    _head(canvas, middle, shoulders)
    for side in (-1, 1):
        along = np.array([side * np.sin(arm), np.cos(arm)])
        shoulder = np.array([middle + side * 32, shoulders + 6])
        elbow, wrist, hand = (tuple(shoulder + along * length) for length in (60, 115, 125))
        _limb(canvas, tuple(shoulder), elbow, (12, 10), _SHIRT)
        _limb(canvas, elbow, wrist, (9, 7), _SKIN)
        _limb(canvas, wrist, hand, (8, 8), _SKIN)
    small = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (3, 3), 0), np.uint8)


def _head(canvas: UInt8Array, middle: float, shoulders: float) -> None:
    _ellipse(canvas, (middle, shoulders - 48), (19, 25), _SKIN)
    _ellipse(canvas, (middle, shoulders - 56), (20, 19), _HAIR, (180, 360))
    for side in (-1, 1):
        _ellipse(canvas, (middle + side * 7, shoulders - 50), (2.2, 2.2), _DARK)
        _ellipse(canvas, (middle + side * 19, shoulders - 47), (4, 6), _SKIN)
    _limb(canvas, (middle, shoulders - 48), (middle, shoulders - 42), (1, 1), (190, 130, 110))
    _ellipse(canvas, (middle, shoulders - 35), (6, 2), (160, 70, 70), (0, 180))


def _ellipse(canvas: UInt8Array, center: _Point, radii: _Point, color: _Color, degrees: tuple[int, int] = (0, 360)) -> None:
    cv2.ellipse(canvas, _scaled(center), _scaled(radii), 0, *degrees, color, cv2.FILLED, cv2.LINE_AA)


def _limb(canvas: UInt8Array, start: _Point, end: _Point, radii: _Point, color: _Color) -> None:
    for share in np.linspace(0, 1, 40):
        center = (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
        cv2.circle(canvas, _scaled(center), round((radii[0] + (radii[1] - radii[0]) * share) * _SCALE), color, cv2.FILLED, cv2.LINE_AA)


def _scaled(point: _Point) -> tuple[int, int]:
    return round(point[0] * _SCALE), round(point[1] * _SCALE)
