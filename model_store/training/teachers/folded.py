"""Convolutions of deployed files, which have their norms folded in, back in a network that has norms."""

import torch
from torch import nn

from posewire.types import FloatArray


def put_folded(network: nn.Module, name: str, norm: str | None, weight: FloatArray, bias: FloatArray) -> None:
    """Put a convolution into a network that is in evaluation mode: the norm behind it only adds the bias.

    Args:
        network: to be changed.
        name: of the convolution.
        norm: name of its batch norm; None: the convolution has a bias itself.
        weight: as many numbers as the convolution has.
        bias: as many as it has outputs.

    Raises:
        ValueError: they are of another convolution.
    """
    convolution = network.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    shape = tuple(convolution.weight.shape)
    if weight.size != convolution.weight.numel() or weight.shape[-2:] != shape[-2:] or bias.size != shape[0]:
        raise ValueError(f"weights of {weight.shape}, not {shape}")
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor(weight.reshape(shape)))
        values = torch.tensor(bias.reshape(-1))
        if norm is None:
            assert convolution.bias is not None
            convolution.bias.copy_(values)
            return
        follower = network.get_submodule(norm)
        assert isinstance(follower, nn.BatchNorm2d)
        # Divides by sqrt(1 + eps), and is to divide by 1.
        follower.weight.fill_((1 + follower.eps) ** 0.5)
        follower.bias.copy_(values)
        follower.reset_running_stats()
