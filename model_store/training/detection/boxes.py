"""Geometry of the detector: cells and overlaps. Boxes are (…, 4): x0, y0, x1, y1 in pixels of the input."""

from collections.abc import Sequence

import torch
from torch import Tensor

from posewire.registry.networks.rtmdet import STRIDES

_SMALL = 1e-6  # square pixels, against division by zero


def cells(height: int, width: int) -> Tensor:
    """(cells, 3) float32: x and y of the point of every cell in pixels, and its stride; finest stride first, row by row.

    As in RTMDet, the point of a cell is its corner: (x * stride, y * stride).
    """
    grids = []
    for stride in STRIDES:
        rows, columns = torch.arange(height // stride), torch.arange(width // stride)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        points = torch.stack([x, y], -1).flatten(0, 1) * float(stride)
        grids.append(torch.cat([points, torch.full((len(points), 1), float(stride))], 1))
    return torch.cat(grids)


def decode(maps: Sequence[Tensor], grid: Tensor) -> Tensor:
    """Maps of the network to (N, cells, 5): a score's logit, and a box in pixels, which may leave the input.

    Args:
        maps: (N, 5, h, w) a stride, finest first: a logit, then the distances to left, top, right and bottom in strides.
        grid: (cells, 3), as `cells` returns it.
    """
    raw = torch.cat([x.flatten(2) for x in maps], 2).transpose(1, 2)
    points, strides = grid[:, :2], grid[:, 2:]
    return torch.cat([raw[..., :1], points - raw[..., 1:3] * strides, points + raw[..., 3:] * strides], -1)


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
