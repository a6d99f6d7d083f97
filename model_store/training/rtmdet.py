"""RTMDet-nano for people in PyTorch, for training and export.

Lyu et al., arXiv 2212.07784: CSPNeXt, PAFPN and separated heads, all of depthwise convolutions. Names of modules are those of
mmdet's checkpoints (`rtmdet_nano_8xb32-100e_coco-obj365-person`), so that a state dict has exactly their keys.
"""

# A module's docstring tells of its forward.
# ruff: noqa: D102

import re
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from model_store.training.blocks import Activation, ConvNorm
from posewire.registry.networks import rtmdet as spec
from posewire.registry.networks.rtmdet import STRIDES, DetectorVariant, get_detector_variant
from posewire.registry.networks.rtmdet import Activation as ActivationName

# Of channels 0..255, BGR.
MEAN, STD = spec.MEAN[::-1], spec.STD[::-1]

STEM = (8, 8, 16)  # channels
WIDTHS = (32, 64, 128, 256)  # channels of the stages, at strides 4, 8, 16, 32
BLOCKS = (1, 2, 2, 1)  # of the stages
FEATURES = 64  # channels that the heads see
PRIOR = -4.6  # logit of a score of 0.01: nearly every point is background
REACH = 2.0  # strides from a point to each side of a box, at first


_ACTIVATIONS: dict[ActivationName, Activation] = {"relu": F.relu, "silu": F.silu}


def build(name: str) -> "RtmDet":
    """A network with random weights, by the name of its variant.

    Raises:
        ModelError: there is no such variant; the message names those that there are.
    """
    return RtmDet(get_detector_variant(name))


class Separable(nn.Module):
    """Depthwise, then 1x1, an activation behind each: (N, C, H, W) to (N, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, within: Activation, last: Activation) -> None:
        super().__init__()
        self.depthwise_conv = ConvNorm(inputs, inputs, kernel, stride=stride, groups=inputs, activation=within)
        self.pointwise_conv = ConvNorm(inputs, outputs, activation=last)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return y


class NextBlock(nn.Module):
    """CSPNeXt's block, 3x3 then 5x5, added to its input or not: (N, C, H, W) to the same."""

    def __init__(self, channels: int, *, added: bool, within: Activation) -> None:
        super().__init__()
        self.conv1 = Separable(channels, channels, 3, within=within, last=within)
        self.conv2 = Separable(channels, channels, 5, within=within, last=within)
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.added else y


class ChannelAttention(nn.Module):
    """Every channel times a weight of all channels' means: (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class CspLayer(nn.Module):
    """Half of the channels pass blocks, half pass by: (N, inputs, H, W) to (N, outputs, H, W)."""

    def __init__(
        self, inputs: int, outputs: int, blocks: int, *, added: bool, attention: bool, within: Activation, boundary: Activation
    ) -> None:
        super().__init__()
        half = outputs // 2
        self.main_conv = ConvNorm(inputs, half, activation=within)
        self.short_conv = ConvNorm(inputs, half, activation=within)
        self.final_conv = ConvNorm(outputs, outputs, activation=boundary)
        self.blocks = nn.Sequential(*(NextBlock(half, added=added, within=within) for _ in range(blocks)))
        self.attention = ChannelAttention(outputs) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1)
        y = y if self.attention is None else self.attention(y)
        z: Tensor = self.final_conv(y)
        return z


class PyramidPooling(nn.Module):
    """(N, C, H, W) to the same, from windows of 1, 5, 9 and 13 places."""

    def __init__(self, channels: int, *, within: Activation, boundary: Activation) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels // 2, activation=within)
        self.conv2 = ConvNorm(channels * 2, channels, activation=boundary)

    def forward(self, x: Tensor) -> Tensor:
        scales = [self.conv1(x)]
        for _ in range(3):
            scales.append(F.max_pool2d(scales[-1], 5, 1, 2))
        y: Tensor = self.conv2(torch.cat(scales, 1))
        return y


class Backbone(nn.Module):
    """CSPNeXt: (N, 3, H, W) to its maps at strides 8, 16 and 32, of 64, 128 and 256 channels."""

    def __init__(self, *, stem: Activation, within: Activation, boundary: Activation) -> None:
        super().__init__()
        a, b, c = STEM
        self.stem = nn.Sequential(
            ConvNorm(3, a, 3, stride=2, activation=stem), ConvNorm(a, b, 3, activation=stem), ConvNorm(b, c, 3, activation=stem)
        )
        for number, (inputs, outputs, blocks) in enumerate(zip((c, *WIDTHS), WIDTHS, BLOCKS, strict=False), 1):
            last = number == len(WIDTHS)
            down = Separable(inputs, outputs, 3, stride=2, within=within, last=boundary)
            pooling = [PyramidPooling(outputs, within=within, boundary=boundary)] if last else []
            layer = CspLayer(outputs, outputs, blocks, added=not last, attention=True, within=within, boundary=boundary)
            self.add_module(f"stage{number}", nn.Sequential(down, *pooling, layer))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        maps = []
        for number in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"stage{number}")(x)
            maps.append(x)
        return maps[1:]


class Neck(nn.Module):
    """PAFPN: maps at strides 8, 16 and 32 to maps of `FEATURES` channels there."""

    def __init__(self, *, within: Activation, boundary: Activation) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS[1:]

        def layer(inputs: int, outputs: int) -> CspLayer:
            return CspLayer(inputs, outputs, 1, added=False, attention=False, within=within, boundary=boundary)

        self.reduce_layers = nn.ModuleList([ConvNorm(coarse, middle, activation=boundary), ConvNorm(middle, fine, activation=boundary)])
        self.top_down_blocks = nn.ModuleList([layer(2 * middle, middle), layer(2 * fine, fine)])
        self.downsamples = nn.ModuleList([Separable(c, c, 3, stride=2, within=within, last=within) for c in (fine, middle)])
        self.bottom_up_blocks = nn.ModuleList([layer(2 * fine, middle), layer(2 * middle, coarse)])
        self.out_convs = nn.ModuleList([Separable(c, FEATURES, 3, within=within, last=boundary) for c in (fine, middle, coarse)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        fine, middle, coarse = maps
        reduced_coarse = self.reduce_layers[0](coarse)
        down_middle = self.top_down_blocks[0](torch.cat([_doubled(reduced_coarse), middle], 1))
        reduced_middle = self.reduce_layers[1](down_middle)
        first = self.top_down_blocks[1](torch.cat([_doubled(reduced_middle), fine], 1))
        second = self.bottom_up_blocks[0](torch.cat([self.downsamples[0](first), reduced_middle], 1))
        third = self.bottom_up_blocks[1](torch.cat([self.downsamples[1](second), reduced_coarse], 1))
        return [convert(x) for convert, x in zip(self.out_convs, (first, second, third), strict=True)]


class Head(nn.Module):
    """One head a stride: maps of `FEATURES` channels to (N, 5, h, w): a logit, then the distances of `RtmDet`."""

    def __init__(self, *, within: Activation) -> None:
        super().__init__()

        def two() -> nn.ModuleList:
            return nn.ModuleList([Separable(FEATURES, FEATURES, 3, within=within, last=within) for _ in range(2)])

        self.cls_convs = nn.ModuleList([two() for _ in STRIDES])
        self.reg_convs = nn.ModuleList([two() for _ in STRIDES])
        self.rtm_cls = nn.ModuleList([_last(1, PRIOR) for _ in STRIDES])
        self.rtm_reg = nn.ModuleList([_last(4, REACH) for _ in STRIDES])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        parts = zip(maps, self.cls_convs, self.reg_convs, self.rtm_cls, self.rtm_reg, strict=True)
        return [torch.cat([score(_through(scores, x)), reach(_through(boxes, x))], 1) for x, scores, boxes, score, reach in parts]


class RtmDet(nn.Module):
    """(N, 3, H, W) BGR, normalised, to three maps (N, 5, h, w) at strides 8, 16 and 32; H and W are multiples of 32.

    Channels are a score's logit, then the distances from the point (x * stride, y * stride) to the left, top, right and bottom of
    the person's box, in strides. `detection.boxes.decode` makes boxes of them.

    Args:
        variant: its activations. They are not in a state dict: who loads one says which variant it is.
    """

    def __init__(self, variant: DetectorVariant) -> None:
        super().__init__()
        within, boundary = _ACTIVATIONS[variant.inner], _ACTIVATIONS[variant.boundary]
        self.variant = variant
        self.backbone = Backbone(stem=_ACTIVATIONS[variant.stem], within=within, boundary=boundary)
        self.neck = Neck(within=within, boundary=boundary)
        self.bbox_head = Head(within=within)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.bbox_head(self.neck(self.backbone(images)))
        return maps


def meeting_places(network: RtmDet, after: Literal["modules", "blocks"]) -> list[str]:
    """Names of the modules whose maps can be another network's of the same shape.

    `modules`: stages, the neck's layers on the way down and up, and its outputs. `blocks`: also the stages' downsampling and pooling, the
    neck's reductions, and the stem if its maps end as the others do.
    """
    if after == "modules":
        stages = [f"backbone.stage{number}" for number in range(1, len(WIDTHS) + 1)]
    else:
        stages = ["backbone.stem"] if network.variant.stem == network.variant.boundary else []
        stages += [
            f"backbone.stage{number}.{part}"
            for number in range(1, len(WIDTHS) + 1)
            for part, _ in enumerate(network.backbone.get_submodule(f"stage{number}").children())
        ]
        stages += [f"neck.reduce_layers.{number}" for number in range(2)]
    neck = [f"neck.{name}.{number}" for name in ("top_down_blocks", "bottom_up_blocks") for number in range(2)]
    return [*stages, *neck, *(f"neck.out_convs.{number}" for number in range(len(STRIDES)))]


def last_norm(block: nn.Module) -> nn.BatchNorm2d:
    """The batch norm that a block's maps come from, by way of an activation.

    Raises:
        TypeError: this is no block whose maps can be met.
    """
    match block:
        case CspLayer():
            found = block.final_conv
        case PyramidPooling():
            found = block.conv2
        case Separable():
            found = block.pointwise_conv
        case ConvNorm():
            found = block
        case nn.Sequential():
            return last_norm(block[-1])
        case _:
            raise TypeError(f"{type(block).__name__} has no last norm")
    return found.bn


# Names in the checkpoints of the scripts that trained this network first, and mmdet's.
_PARTS = ("depthwise_conv", "pointwise_conv")
_OTHER_NAMES = (
    (r"^stem\.", "backbone.stem."),
    (r"^s(\d)\.", r"backbone.stage\1."),
    (r"^r(\d)\.", r"neck.reduce_layers.\1."),
    (r"^t(\d)\.", r"neck.top_down_blocks.\1."),
    (r"^d(\d)\.", r"neck.downsamples.\1."),
    (r"^b(\d)\.", r"neck.bottom_up_blocks.\1."),
    (r"^o\.", "neck.out_convs."),
    (r"^h\.(\d)\.(cls|reg)\.", r"bbox_head.\2_convs.\1."),
    (r"^h\.(\d)\.c\.", r"bbox_head.rtm_cls.\1."),
    (r"^h\.(\d)\.r\.", r"bbox_head.rtm_reg.\1."),
    (r"\.(short|main|final)\.", r".\1_conv."),
    (r"\.blocks\.(\d)\.a\.", r".blocks.\1.conv1."),
    (r"\.blocks\.(\d)\.b\.", r".blocks.\1.conv2."),
    (r"^(backbone\.stage4\.1)\.a\.", r"\1.conv1."),
    (r"^(backbone\.stage4\.1)\.b\.", r"\1.conv2."),
    (r"\.fc\.", ".attention.fc."),
)
# What is left of a separable convolution: its part and, within that, convolution or norm, both as numbers.
_NUMBERED_SEPARABLE = re.compile(
    r"^(backbone\.stage\d\.0|neck\.(?:downsamples|out_convs)\.\d|.*\.conv[12]|.*_convs\.\d\.\d)\.([01])\.([01])\."
)
_NUMBERED = re.compile(r"\.([01])\.(?=(weight|bias|running_mean|running_var|num_batches_tracked)$)")


def published_name(name: str) -> str:
    """The name in mmdet's checkpoints of a tensor that the scripts before this training named; any other name as it is."""
    if re.match(r"(backbone|neck|bbox_head)\.", name):
        return name
    for pattern, replacement in _OTHER_NAMES:
        name = re.sub(pattern, replacement, name)
    name = _NUMBERED_SEPARABLE.sub(lambda found: f"{found[1]}.{_PARTS[int(found[2])]}.{found[3]}.", name)
    return name if ".rtm_" in name else _NUMBERED.sub(lambda found: f".{('conv', 'bn')[int(found[1])]}.", name)


def _through(layers: nn.Module, x: Tensor) -> Tensor:
    for layer in layers.children():
        x = layer(x)
    return x


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _last(outputs: int, bias: float) -> nn.Conv2d:
    layer = nn.Conv2d(FEATURES, outputs, 1)
    nn.init.normal_(layer.weight, std=0.01)
    layer.bias = nn.Parameter(torch.full((outputs,), bias))
    return layer
