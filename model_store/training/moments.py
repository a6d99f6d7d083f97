"""Batch norms that begin with the moments of a teacher's maps, so that a student's first maps are not all of one size."""

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

_LEAST_DEVIATION = 1e-3


def begin_with_moments(norm: nn.BatchNorm2d, maps: Tensor) -> None:
    """Let silu(norm(x)) begin with the mean and the deviation of each channel of a teacher's maps, for x that is normal.

    Args:
        norm: the norm before the SiLU; its weight and bias are changed.
        maps: (N, C, h, w) of the teacher.
    """
    weights, biases, means, deviations = (each.to(maps.device) for each in _table())
    mean = maps.float().mean((0, 2, 3))
    deviation = maps.float().std((0, 2, 3)) + _LEAST_DEVIATION
    far = ((means[:, None] - mean) / deviation) ** 2 + ((deviations[:, None] - deviation) / deviation) ** 2
    nearest = far.argmin(0)
    with torch.no_grad():
        norm.weight.copy_(weights[nearest])
        norm.bias.copy_(biases[nearest])


@cache
def _table() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, biases, and the mean and deviation of silu(weight * z + bias) for normal z."""
    z = torch.special.ndtri((torch.arange(256) + 0.5) / 256)
    steps = torch.logspace(-2.5, 1.5, 80), torch.cat([torch.linspace(-4, 4, 81), torch.linspace(4.2, 30, 60)])
    weights, biases = (each.flatten() for each in torch.meshgrid(*steps, indexing="ij"))
    values = F.silu(weights[:, None] * z + biases[:, None])
    return weights, biases, values.mean(1), values.std(1)
