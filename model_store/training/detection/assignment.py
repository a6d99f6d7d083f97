"""Which cells answer for which person: as SimOTA does it (YOLOX, arXiv 2107.08430), for one class."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor

from model_store.training.detection.boxes import iou

RADIUS = 2.5  # strides: cells whose points are within it of a person's centre are near
MOST = 10  # cells a person
IOU_COST = 3.0  # of the logarithm of the overlap, against 1 for the score
FAR_COST = 1e5  # added where a cell is only inside the box, or only near its centre: taken when nothing better is left


@dataclass(frozen=True)
class Assignment:
    """Matched cells, ascending, and the person of each."""

    cells: Tensor  # (matches,) int64, indices into the grid
    people: Tensor  # (matches,) int64, indices into the people's boxes


def assign(logits: Tensor, boxes: Tensor, people: Tensor, grid: Tensor) -> Assignment:
    """Match cells with people, each cell with at most one; costs are of the network's present answers, without gradient.

    A cell may answer for a person whose box its point is in, or whose centre it is near (`RADIUS`). A person gets as many
    cells as its best `MOST` overlaps sum up to, at least one: the cheapest by score and overlap. A cell that several people
    claim goes to the one it costs least. A person near no cell, outside of the image, gets none.

    Args:
        logits: (cells,) of the scores.
        boxes: (cells, 4) that the cells answer.
        people: (people, 4) true boxes.
        grid: (cells, 3), as `cells` returns it.
    """
    with torch.no_grad():
        inside, near = _inside(grid, people), _near(grid, people)
        allowed = inside | near
        overlaps = iou(boxes[:, None], people[None]) * allowed
        costs = F.softplus(-logits)[:, None] - IOU_COST * (overlaps + 1e-8).log() + FAR_COST * ~(inside & near)
        costs = costs.masked_fill(~allowed, torch.inf)
        matched = _cheapest(costs, overlaps) & allowed
        # The cheapest claim wins. A claim that is not made costs more than any that is.
        claims = costs.masked_fill(~matched, torch.inf)
        found = matched.any(1).nonzero()[:, 0]
        return Assignment(found, claims[found].argmin(1) if len(found) else found)


def _inside(grid: Tensor, people: Tensor) -> Tensor:
    """(cells, people): the cell's point is in the person's box."""
    points = grid[:, None, :2]
    return ((points > people[None, :, :2]) & (points < people[None, :, 2:])).all(-1)


def _near(grid: Tensor, people: Tensor) -> Tensor:
    """(cells, people): the cell's point is within RADIUS strides of the person's centre, along both axes."""
    middles = (people[:, :2] + people[:, 2:]) / 2
    return ((grid[:, None, :2] - middles[None]).abs() < RADIUS * grid[:, None, 2:]).all(-1)


def _cheapest(costs: Tensor, overlaps: Tensor) -> Tensor:
    """(cells, people): the cell is among those that the person may have."""
    most = min(MOST, len(costs))
    wanted = overlaps.topk(most, 0).values.sum(0).int().clamp(min=1)
    cheapest = costs.topk(most, 0, largest=False).indices
    taken = torch.arange(most, device=costs.device)[:, None] < wanted
    return torch.zeros_like(costs, dtype=torch.bool).scatter_(0, cheapest, taken)
