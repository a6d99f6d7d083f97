"""A network of two convolutions, to meet another of its kind."""

import torch
from torch import Tensor, nn


class Pair(nn.Module):
    """A map and its mirror image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(x), self.conv(x).flip(-1)]


class Two(nn.Module):
    """Two convolutions, the first of which gives two maps."""

    def __init__(self, channels: int = 4, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = Pair(channels)
        self.second = nn.Conv2d(2 * channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(torch.cat(self.first(x), 1))
        return y
