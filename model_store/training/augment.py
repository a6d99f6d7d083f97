"""What the pose network sees of a person: scaled, turned, cut off, half hidden. Pure functions: arrays and a generator in, arrays out.

Points are x y, to the right and down, in pixels of the stored crop unless said otherwise.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from model_store.training.data.records import swap_sides
from model_store.training.recipe import PoseAugmentation
from posewire.imaging.geometry import apply_affine
from posewire.pipeline.pose_estimator import PADDING
from posewire.types import FloatArray, UInt8Array

# Nose to wrists; hips to ankles.
_UPPER = np.arange(17) < 11
# Of a view's height against the usual one.
_SMALLEST, _LARGEST = 0.65, 1.4
_MOST_TURNED = 1.0  # radians
# Keypoints that a half, or what is left of a person, must have.
_LEAST = 5


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A person in an image."""

    pixels: UInt8Array  # (H, W, 3), RGB
    keypoints_xy: FloatArray  # (17, 2)
    weights: FloatArray  # (17,), 0..1; 0: unknown, or not in the image
    box_xywh: FloatArray  # (4,)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What part of an image is shown, and how."""

    centre: FloatArray  # (2,)
    height: float  # pixels of the image
    turned: float = 0.0  # radians, clockwise
    mirrored: bool = False


def plain_view(box_xywh: FloatArray, aspect: float) -> View:
    """What the service shows of a person; `aspect` is height by width."""
    corner, (width, height) = box_xywh[:2], box_xywh[2:]
    return View(corner + box_xywh[2:] / np.float32(2), PADDING * max(float(height), float(width) * aspect, 1.0))


def half_body(sample: Sample, aspect: float, rng: np.random.Generator) -> View | None:
    """A view of the upper or the lower half of the body, or None if it has too few keypoints."""
    half = (sample.weights > 0) & (_UPPER if rng.random() < 0.6 else ~_UPPER)
    if half.sum() < _LEAST:
        return None
    low, high = sample.keypoints_xy[half].min(0), sample.keypoints_xy[half].max(0)
    whole = plain_view(sample.box_xywh, aspect).height
    wanted = 1.6 * max(float(high[1] - low[1]), float(high[0] - low[0]) * aspect)
    return View((low + high) / np.float32(2), min(whole, max(wanted, 0.3 * whole)))


def truncate(sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample as if the image ended within the person: black beyond, no keypoints there, and a box that ends there too.

    Legs are cut off most often. A person of whom too little would be left stays whole.
    """
    axis, from_end = [(1, True), (1, True), (1, False), (0, True), (0, False)][rng.integers(5)]
    start, length = float(sample.box_xywh[axis]), float(sample.box_xywh[2 + axis])
    part = rng.uniform(0.1, 0.55)
    border = start + length * (1 - part if from_end else part)
    kept = sample.keypoints_xy[:, axis] < border if from_end else sample.keypoints_xy[:, axis] > border
    weights = np.where(kept, sample.weights, 0).astype(np.float32)
    if (weights > 0).sum() < _LEAST:
        return sample
    edge = int(np.clip(round(border), 0, sample.pixels.shape[1 - axis]))
    pixels, box = sample.pixels.copy(), sample.box_xywh.copy()
    beyond = slice(edge, None) if from_end else slice(0, edge)
    pixels[(beyond, slice(None)) if axis == 1 else (slice(None), beyond)] = 0
    box[2 + axis] = length * (1 - part)
    box[axis] = start if from_end else border
    return Sample(pixels, sample.keypoints_xy, weights, box)


def jitter(view: View, how: PoseAugmentation, rng: np.random.Generator) -> View:
    """A view near another: scaled, shifted, turned and mirrored by chance."""
    scale = float(np.clip(1 + rng.normal() * how.scale_sigma, _SMALLEST, _LARGEST))
    turned = float(np.clip(rng.normal() * how.rotation_sigma, -_MOST_TURNED, _MOST_TURNED)) if rng.random() < how.rotation else 0.0
    height = view.height * scale
    centre = (view.centre + rng.normal(size=2) * how.shift_sigma * height).astype(np.float32)
    return View(centre, height, turned, bool(rng.random() < how.mirror))


def view_affine(view: View, height: int, width: int) -> FloatArray:
    """(2, 3): image pixels -> pixels of the view, `height` x `width`; the centre goes to its middle, as in `crop_affine`."""
    scale = height / view.height
    cos, sin = math.cos(view.turned) * scale, math.sin(view.turned) * scale
    affine = np.array([[cos, -sin, 0], [sin, cos, 0]])
    affine[:, 2] = np.array([width / 2, height / 2]) - affine[:, :2] @ view.centre
    if view.mirrored:
        affine[0] *= -1
        affine[0, 2] += width - 1  # column x goes to column width - 1 - x
    return affine.astype(np.float32)


def show(sample: Sample, view: View, height: int, width: int) -> Sample:
    """The view, `height` x `width`: left and right are changed over if it is mirrored, keypoints outside weigh nothing."""
    affine = view_affine(view, height, width)
    pixels = np.asarray(cv2.warpAffine(sample.pixels, affine, (width, height), flags=cv2.INTER_LINEAR), np.uint8)
    points, weights = apply_affine(affine, sample.keypoints_xy), sample.weights
    if view.mirrored:
        points, weights = swap_sides(points), swap_sides(weights[:, None])[:, 0]
    inside = ((points >= 0) & (points <= np.array([width, height]) - 1)).all(1)
    corners = apply_affine(affine, sample.box_xywh[:2] + sample.box_xywh[2:] * np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32))
    box = np.concatenate([corners.min(0), corners.max(0) - corners.min(0)])
    return Sample(pixels, points, np.where(inside, weights, 0).astype(np.float32), box)


def occlude(sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample behind a rectangle of one colour, of noise, or of another part of the image; keypoints behind it stay."""
    height, width = sample.pixels.shape[:2]
    h, w = (max(1, int(rng.uniform(0.1, 0.35) * length)) for length in (height, width))
    y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    pixels = sample.pixels.copy()
    match rng.integers(3):
        case 0:
            pixels[y : y + h, x : x + w] = rng.integers(0, 256, 3)
        case 1:
            pixels[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3))
        case _:
            v, u = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
            pixels[y : y + h, x : x + w] = sample.pixels[v : v + h, u : u + w]
    return replace(sample, pixels=pixels)


def augment(sample: Sample, how: PoseAugmentation, height: int, width: int, rng: np.random.Generator) -> Sample:
    """All of it: a stored crop to what the network sees, before its colours are changed."""
    aspect = height / width
    if rng.random() < how.truncation:
        sample = truncate(sample, rng)
    view = half_body(sample, aspect, rng) if rng.random() < how.half_body else None
    shown = show(sample, jitter(view or plain_view(sample.box_xywh, aspect), how, rng), height, width)
    return occlude(shown, rng) if rng.random() < how.occlusion else shown
