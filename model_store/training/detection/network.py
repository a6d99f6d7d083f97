"""The person detector `persondet-320` in PyTorch: three strides, no anchors, one class.

Names of modules are those of `model_store/checkpoints/detector.pt`. Boxes are x0, y0, x1, y1 in pixels of the input, and may
leave it. A *cell* is one place of one stride's map; cells are in the order of `boxes.cells`.
"""

# A module's docstring tells of its forward.
# ruff: noqa: D102

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from model_store.training.detection.boxes import STRIDES, cells

WIDTHS = (16, 32, 64, 128, 192)  # channels at strides 2, 4, 8, 16, 32
FEATURES = 64  # channels of the pyramid
PRIOR = -4.6  # logit of a score of 0.01: nearly every cell is background
LARGEST = 6.0  # logarithm of a box's side in strides: beyond, nothing is told apart, and nothing overflows


def build() -> nn.Module:
    """A network with random weights: (N, 3, H, W) float32 BGR 0..1 to (N, cells, 5): a score's logit and a box.

    H and W are multiples of 32.
    """
    return Detector()


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, rectifier."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """(N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = conv(channels, channels)
        self.b = conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.b(self.a(x))
        return y


class CrossStage(nn.Module):
    """A cross-stage partial block: half of the channels pass `residuals` blocks, half pass by."""

    def __init__(self, inputs: int, outputs: int, residuals: int) -> None:
        super().__init__()
        half = outputs // 2
        self.a = conv(inputs, half)
        self.b = conv(inputs, half)
        self.m = nn.Sequential(*(Residual(half) for _ in range(residuals)))
        self.c = conv(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c(torch.cat([self.m(self.a(x)), self.b(x)], 1))
        return y


class PyramidPooling(nn.Module):
    """(N, C, H, W) to the same, from windows of 1, 5, 9 and 13 cells."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = conv(channels, channels // 2)
        self.b = conv(2 * channels, channels)
        self.p = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        scales = [self.a(x)]
        for _ in range(3):
            scales.append(self.p(scales[-1]))
        y: Tensor = self.b(torch.cat(scales, 1))
        return y


class Detector(nn.Module):
    """(N, 3, H, W) to (N, cells, 5): see `build`."""

    def __init__(self) -> None:
        super().__init__()
        c2, c4, c8, c16, c32 = WIDTHS
        f = FEATURES
        self.stem = nn.Sequential(conv(3, c2, 3, 2), conv(c2, c4, 3, 2), CrossStage(c4, c4, 1))
        self.s3 = nn.Sequential(conv(c4, c8, 3, 2), CrossStage(c8, c8, 2))
        self.s4 = nn.Sequential(conv(c8, c16, 3, 2), CrossStage(c16, c16, 2))
        self.s5 = nn.Sequential(conv(c16, c32, 3, 2), CrossStage(c32, c32, 1), PyramidPooling(c32))
        # lN: backbone to pyramid; tN: on the way to finer maps; dN, bN: on the way back to coarser ones.
        self.l5, self.l4, self.l3 = conv(c32, f), conv(c16, f), conv(c8, f)
        self.t4, self.t3 = CrossStage(2 * f, f, 1), CrossStage(2 * f, f, 1)
        self.d4, self.b4 = conv(f, f, 3, 2), CrossStage(2 * f, f, 1)
        self.d5, self.b5 = conv(f, f, 3, 2), CrossStage(2 * f, f, 1)
        self.h = nn.ModuleList(conv(f, f, 3) for _ in STRIDES)
        self.o = nn.ModuleList(_output(f) for _ in STRIDES)

    def forward(self, picture: Tensor) -> Tensor:
        outputs = [output(head(x)) for x, head, output in zip(self._pyramid(picture), self.h, self.o, strict=True)]
        raw = torch.cat([y.flatten(2) for y in outputs], 2).transpose(1, 2)
        height, width = picture.shape[2:]
        grid = cells(height, width).to(raw)
        centres, strides = grid[:, :2], grid[:, 2:]
        centre = centres + raw[..., 1:3] * strides
        half_sides = raw[..., 3:].clamp(max=LARGEST).exp() * strides / 2
        return torch.cat([raw[..., :1], centre - half_sides, centre + half_sides], -1)

    def _pyramid(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps of FEATURES channels at strides 8, 16 and 32."""
        c3 = self.s3(self.stem(picture))
        c4 = self.s4(c3)
        p5 = self.l5(self.s5(c4))
        p4 = self.t4(torch.cat([self.l4(c4), F.interpolate(p5, scale_factor=2.0)], 1))
        p3: Tensor = self.t3(torch.cat([self.l3(c3), F.interpolate(p4, scale_factor=2.0)], 1))
        n4: Tensor = self.b4(torch.cat([self.d4(p3), p4], 1))
        n5: Tensor = self.b5(torch.cat([self.d5(n4), p5], 1))
        return p3, n4, n5


def _output(features: int) -> nn.Conv2d:
    """To a score's logit, the centre's distance from the cell's and the logarithm of the sides, both in strides."""
    layer = nn.Conv2d(features, 5, 1)
    nn.init.normal_(layer.weight, std=0.01)
    layer.bias = nn.Parameter(torch.tensor([PRIOR, 0.0, 0.0, 1.0, 1.0]))
    return layer
