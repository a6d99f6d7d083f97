"""What the detector is trained to make small: scores that tell the overlap, and boxes that overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor

from model_store.training.detection.assignment import assign
from model_store.training.detection.boxes import generalised_iou, iou

BOX_WEIGHT = 5.0  # of the boxes' loss, against 1 for the scores'


@dataclass(frozen=True)
class DetectorLoss:
    """Both terms, each a scalar a matched cell, and how many cells were matched."""

    scores: Tensor
    boxes: Tensor
    matches: int

    @property
    def total(self) -> Tensor:
        """What is trained on."""
        return self.scores + BOX_WEIGHT * self.boxes


def detector_loss(answers: Tensor, people: Sequence[Tensor], grid: Tensor) -> DetectorLoss:
    """Loss of a batch.

    The score of a matched cell is trained towards the IoU of its box with the person's, all other scores towards 0, by
    binary cross-entropy; the box of a matched cell towards the person's, by 1 - generalised IoU. Both are sums over the
    batch, divided by its matches (by 1 if there are none).

    Args:
        answers: (N, cells, 5), as `boxes.decode` returns it: a score's logit and a box.
        people: of each image (people, 4) boxes; an empty (0, 4) is an image without people.
        grid: (cells, 3), as `boxes.cells` returns it.
    """
    logits, boxes = answers[..., 0], answers[..., 1:]
    targets = torch.zeros_like(logits)
    distances = boxes.new_zeros(())
    matches = 0
    for image, truth in enumerate(people):
        if not len(truth):
            continue
        match = assign(logits[image], boxes[image], truth, grid)
        found, wanted = boxes[image, match.cells], truth[match.people]
        targets[image, match.cells] = iou(found.detach(), wanted)
        distances = distances + (1 - generalised_iou(found, wanted)).sum()
        matches += len(match.cells)
    share = max(matches, 1)
    scores = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return DetectorLoss(scores / share, distances / share, matches)
