"""Geometry of the detector: cells and overlaps. Boxes are (…, 4): x0, y0, x1, y1 in pixels of the input."""

import torch
from torch import Tensor

STRIDES = (8, 16, 32)  # input pixels a cell
_SMALL = 1e-6  # square pixels, against division by zero


def cells(height: int, width: int) -> Tensor:
    """(cells, 3) float32: x and y of the centre of every cell in pixels, and its stride; finest stride first, row by row."""
    grids = []
    for stride in STRIDES:
        rows, columns = torch.arange(height // stride), torch.arange(width // stride)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres = (torch.stack([x, y], -1).flatten(0, 1) + 0.5) * stride
        grids.append(torch.cat([centres, torch.full((len(centres), 1), float(stride))], 1))
    return torch.cat(grids)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, 0..1, of boxes whose leading axes broadcast."""
    return _overlap(a, b)[0]


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """-1..1: the IoU, less the part of the smallest box about both that belongs to neither (arXiv 1902.09630)."""
    ratio, union = _overlap(a, b)
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])) + _SMALL
    return ratio - (hull - union) / hull


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the union in square pixels."""
    shared = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - shared + _SMALL
    return shared / union, union


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(-1)
