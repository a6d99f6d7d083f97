"""What the pose network is trained to make small."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor


def pose_loss(logits: Tensor, heatmaps: Tensor, weights: Tensor, binary: float) -> Tensor:
    """Cross-entropy of the spatial softmax, and of each pixel by itself.

    The first says where a keypoint is and learns fast; the second makes the sigmoid of the logits the heatmap that is served. Mean squared
    error on heatmaps learns far slower.

    Args:
        logits: (N, K, h, w) of the network.
        heatmaps: (N, K, h, w), 0..1.
        weights: (N, K), how much each counts.
        binary: weight of the second.

    Returns:
        A scalar: the mean over keypoints, by their weights; 0 if none weighs anything.
    """
    answers, wanted = logits.flatten(2), heatmaps.flatten(2)
    shares = wanted / (wanted.sum(-1, keepdim=True) + 1e-6)
    where = -(shares * torch.log_softmax(answers, -1)).sum(-1)
    what = F.binary_cross_entropy_with_logits(answers, wanted, reduction="none").sum(-1)
    return ((where + binary * what) * weights).sum() / (weights.sum() + 1e-6)


def heatmap_error(answer: Tensor, heatmaps: Tensor, weights: Tensor) -> Tensor:
    """The mean squared error of linear heatmaps.

    Args:
        answer: (N, K, h, w) of the network.
        heatmaps: (N, K, h, w), 0..1.
        weights: (N, K), how much each counts.

    Returns:
        A scalar: the mean over keypoints, by their weights; 0 if none weighs anything.
    """
    each = ((answer.float() - heatmaps) ** 2).mean((2, 3))
    return (each * weights).sum() / (weights.sum() + 1e-6)
