"""The C++ operators with their gradients, for float32 maps in channels-last memory; `native.build` must have been called."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor

_native: Any = torch.ops.posewire_training


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(_native.split(x))

    @staticmethod
    def backward(_: Any, *halves: Tensor) -> Tensor:
        x: Tensor = _native.join(*halves)
        return x


class _Shuffle(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, a: Tensor, b: Tensor) -> Tensor:
        x: Tensor = _native.shuffle(a, b)
        return x

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(_native.unshuffle(gradient))


class _Weigh(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weights: Tensor) -> Tensor:
        context.save_for_backward(x, weights)
        y: Tensor = _native.weigh(x, weights)
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(_native.weigh_gradients(gradient, *context.saved_tensors))


class _AddRepeated(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, relu: bool, *maps: Tensor) -> Tensor:
        total: Tensor = _native.add_repeated(maps, relu)
        context.factors, context.relu = [total.shape[-1] // x.shape[-1] for x in maps], relu
        if relu:
            context.save_for_backward(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        total = context.saved_tensors[0] if context.relu else gradient
        return None, *_native.add_repeated_gradients(gradient, total, context.factors, context.relu)


class _Depthwise2(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, kernel: Tensor) -> Tensor:
        context.save_for_backward(x, kernel)
        return F.conv2d(x, kernel, None, 2, 1, 1, len(kernel))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, kernel = context.saved_tensors
        of_kernel = torch.ops.aten.convolution_backward(
            gradient, x, kernel, None, [2, 2], [1, 1], [1, 1], False, [0, 0], len(kernel), [False, True, False]
        )[1]
        return _native.depthwise2_gradient(gradient, kernel, *x.shape[2:]), of_kernel


# `apply` has no types of its own; what they do is told in `operators`.
split: Callable[[Tensor], tuple[Tensor, Tensor]] = _Split.apply
shuffle: Callable[[Tensor, Tensor], Tensor] = _Shuffle.apply
weigh: Callable[[Tensor, Tensor], Tensor] = _Weigh.apply
add_repeated: Callable[..., Tensor] = _AddRepeated.apply  # whether through a rectifier, then the maps
depthwise2: Callable[[Tensor, Tensor], Tensor] = _Depthwise2.apply
