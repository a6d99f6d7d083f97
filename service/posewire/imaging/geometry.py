"""Boxes, letterboxes and affine crops, as pure functions on numpy arrays.

Every coordinate is in pixels, x to the right, y down. An affine is (2, 3) float32 and maps column vectors (x, y, 1).
"""

import cv2
import numpy as np

from posewire.imaging.resize import area_resize
from posewire.types import Crop, FloatArray, Frame, UInt8Array


def xyxy_to_xywh(boxes: FloatArray) -> FloatArray:
    """Convert (x0, y0, x1, y1) into (x, y, width, height), (N, 4) float32 each."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xywh_to_xyxy(boxes: FloatArray) -> FloatArray:
    """Convert (x, y, width, height) into (x0, y0, x1, y1), (N, 4) float32 each."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def clip_boxes(boxes_xyxy: FloatArray, width: int, height: int) -> FloatArray:
    """Clip (N, 4) float32 corners to an image of `width` x `height` pixels."""
    limit = np.array([width, height, width, height], np.float32)
    return np.clip(boxes_xyxy, 0, limit)


def letterbox(pixels: UInt8Array, height: int, width: int, pad_value: int) -> tuple[UInt8Array, float]:
    """Scale an image to fit a canvas, keeping its aspect; it lies at the top left, the rest is `pad_value`.

    Args:
        pixels: (H, W, 3) uint8.
        height: of the canvas, pixels.
        width: of the canvas, pixels.
        pad_value: 0..255, for all channels.

    Returns:
        The (height, width, 3) uint8 canvas, and the scale: canvas pixels per image pixel.
    """
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    canvas = np.full((height, width, 3), pad_value, np.uint8)
    inside = canvas[: size[1], : size[0]]
    if scale < 1:
        area_resize(pixels, size[1], size[0], inside)
    else:
        inside[:] = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    return canvas, scale


def non_maximum_suppression(boxes_xyxy: FloatArray, scores: FloatArray, iou: float) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Drop boxes that overlap a better one (greedy non-maximum suppression).

    Args:
        boxes_xyxy: (N, 4) float32.
        scores: (N,) float32.
        iou: 0..1; of two boxes that overlap more than this, the one with the lower score is dropped.

    Returns:
        Indices of the remaining boxes, best first.
    """
    if not len(boxes_xyxy):
        return np.empty(0, np.intp)
    kept = cv2.dnn.NMSBoxes(xyxy_to_xywh(boxes_xyxy).tolist(), scores.tolist(), 0.0, iou)
    return np.asarray(kept, np.intp).reshape(-1)


def crop_affine(box_xywh: FloatArray, height: int, width: int, padding: float) -> FloatArray:
    """Return the affine of a person's crop: image pixels -> crop pixels.

    The box is extended about its centre to the aspect of the crop, then scaled by `padding`. Its centre maps to
    (width / 2, height / 2), as in the top-down networks since Simple Baselines (arXiv 1804.06208).

    Args:
        box_xywh: (4,) float32, pixels of the image.
        height: of the crop, pixels.
        width: of the crop, pixels.
        padding: factor on the size of the box; 1.25 shows a quarter more than the box.

    Returns:
        (2, 3) float32.
    """
    x, y, w, h = (float(v) for v in box_xywh)
    scale = height / (padding * max(h, w * height / width, 1.0))
    cx, cy = x + w / 2, y + h / 2
    return np.array([[scale, 0, width / 2 - scale * cx], [0, scale, height / 2 - scale * cy]], np.float32)


def unbiased_crop_affine(box_xywh: FloatArray, height: int, width: int, padding: float) -> FloatArray:
    """Return the affine of a person's crop by unbiased data processing (UDP, arXiv 1911.07524): image pixels -> crop pixels.

    The box is extended and padded as by `crop_affine`. Sizes are distances between the middles of the outer pixels: the box's edges map
    to 0 and `width` - 1, and to 0 and `height` - 1. So a crop and its mirror image have the same places, and heatmaps need no shift.

    Args:
        box_xywh: (4,) float32, pixels of the image.
        height: of the crop, pixels.
        width: of the crop, pixels.
        padding: factor on the size of the box.

    Returns:
        (2, 3) float32.
    """
    x, y, w, h = (float(v) for v in box_xywh)
    shown = padding * max(h, w * height / width, 1.0)  # height of the part that is shown, pixels of the image
    across, down = (width - 1) / (shown * width / height), (height - 1) / shown
    cx, cy = x + w / 2, y + h / 2
    return np.array([[across, 0, (width - 1) / 2 - across * cx], [0, down, (height - 1) / 2 - down * cy]], np.float32)


def invert_affine(matrix: FloatArray) -> FloatArray:
    """Return the inverse of `matrix`, (2, 3) float32 each."""
    return np.asarray(cv2.invertAffineTransform(matrix.astype(np.float64)), np.float32)


def apply_affine(matrix: FloatArray, points_xy: FloatArray) -> FloatArray:
    """Map points (..., 2) float32 by a (2, 3) affine; double precision keeps sub-pixels of large images."""
    exact = matrix.astype(np.float64)
    return (points_xy @ exact[:, :2].T + exact[:, 2]).astype(np.float32)


def cut_crops(frame: Frame, boxes_xywh: FloatArray, height: int, width: int, padding: float, *, unbiased: bool = False) -> list[Crop]:
    """Crop every person out of an image.

    Args:
        frame: the image.
        boxes_xywh: (N, 4) float32, pixels of the image.
        height: of a crop, pixels.
        width: of a crop, pixels.
        padding: as in `crop_affine`.
        unbiased: by `unbiased_crop_affine`.

    Returns:
        N crops; parts outside the image are black.
    """
    crops, affine = [], unbiased_crop_affine if unbiased else crop_affine
    for box in boxes_xywh:
        to_crop = affine(box, height, width, padding)
        pixels = cv2.warpAffine(frame.pixels, to_crop, (width, height), flags=cv2.INTER_LINEAR)
        crops.append(Crop(pixels=np.asarray(pixels, np.uint8), to_image=invert_affine(to_crop)))
    return crops
