"""What Lite-HRNet does between its convolutions; on a CPU, if asked, by C++ operators in one pass each.

After `use_native` maps that are float32, on the CPU and channels-last go through `native/operators.cpp`; all others, and what is
exported, go through torch's own operators as before. Both give the same numbers.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from model_store.training import native
from model_store.training.native import gradients

_in_use = False


def use_native(use: bool = True) -> None:
    """Choose for this process.

    Raises:
        RuntimeError: there is no C++ compiler or no ninja, or the compiler fails; says what.
    """
    global _in_use  # noqa: PLW0603 - one choice for the process, as torch's own backends'
    if use:
        native.build()
    _in_use = use


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 2C, H, W) to its first and its second C channels."""
    if _fits(x):
        return gradients.split(x)
    a, b = x.chunk(2, 1)
    return a, b


def join_shuffled(a: Tensor, b: Tensor) -> Tensor:
    """ShuffleNet's shuffle of two groups: (N, C, H, W) twice to (N, 2C, H, W) with channels a0 b0 a1 b1 …"""
    if _fits(a, b):
        return gradients.shuffle(a, b)
    return torch.stack([a, b], 2).flatten(1, 2)


def weigh(x: Tensor, weights: Tensor) -> Tensor:
    """(N, C, H, W) times (N, C, H / factor, W / factor), repeated to its size; or times (N, C, 1, 1)."""
    if _fits(x) and weights.dtype == x.dtype:  # some channels of a map are not channels-last, but small: they are copied
        return gradients.weigh(x, weights)
    return x * weights if weights.shape[2:] in (x.shape[2:], (1, 1)) else x * _repeated(weights, x.shape[-1])


def add_repeated(first: Tensor, *others: Tensor, relu: bool = False) -> Tensor:
    """Twice the first and once each of the others, the coarser repeated to the finest's size; then a rectifier, or none."""
    if _fits(first, *others):
        return gradients.add_repeated(relu, first, *others)
    width = max([x.shape[-1] for x in (first, *others)])
    total = 2 * _repeated(first, width)
    for x in others:
        total = total + _repeated(x, width)
    return F.relu(total) if relu else total


class Conv2d(nn.Conv2d):
    """torch's own, but for the gradient of a depthwise 3x3 convolution of stride 2, which is slow there."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        slow = self.kernel_size == (3, 3) and self.stride == (2, 2) and self.groups == self.in_channels == self.out_channels > 1
        return gradients.depthwise2(x, self.weight) if slow and _fits(x) else super().forward(x)


def _fits(*maps: Tensor) -> bool:
    return _in_use and all(
        x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last) for x in maps
    )


def _repeated(x: Tensor, width: int) -> Tensor:
    factor = width // x.shape[-1]
    return x if factor == 1 else F.interpolate(x, scale_factor=float(factor), mode="nearest")
