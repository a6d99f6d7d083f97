"""The Lite-HRNet family as data: every layer, weight and operation of a variant, without a tensor library.

Lite-HRNet is Yu et al., CVPR 2021, arXiv 2104.06403; layout and key names are those of the authors' checkpoints,
https://github.com/HRNet/Lite-HRNet. A stem divides the image's size by 4. Three stages follow with 2, 3 and 4 branches,
each branch with half the resolution and twice the channels of the one above; a transition before each stage creates its
branches, and every module of a stage ends by adding all its branches to all others. The head combines the branches from the
coarsest to the finest. The final layer outputs one heatmap per keypoint, at a quarter of the image's size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType
from typing import Final, Literal

from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.layers import (
    FINEST,
    POOLED,
    Conv,
    Layer,
    Norm,
    Pool,
    Relu,
    Upsample,
    fuse,
    head,
    lite_blocks,
    naive_blocks,
    stem,
    transition,
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One member of the family.

    A block keeps the first half of its channels, processes the other half and shuffles both. The `lite` block weights
    channels by the values of all branches (conditional channel weighting); the `naive` one is ShuffleNetV2's, with 1x1
    convolutions at both ends.
    """

    name: str
    block: Literal["lite", "naive"]
    modules: tuple[int, int, int]  # of each stage
    channels: tuple[int, int, int, int]  # of the branches, finest first; stage s has the first s + 2
    keypoints: int = 17
    blocks: int = 2  # of each module
    stem_channels: int = 32
    stem_expansion: int = 1  # widest layer of the stem, in units of its channels
    cross_reduction: int = 8  # lite block: channels of all branches to one of the hidden layer that weights across resolutions
    spatial_reduction: int = 4  # lite block: channels of one branch to one of the hidden layer that weights by its mean


_FAMILY: Final = (
    Variant("litehrnet-18", "lite", (2, 4, 2), (40, 80, 160, 320)),
    Variant("litehrnet-30", "lite", (3, 8, 3), (40, 80, 160, 320)),
    Variant("naive-litehrnet-18", "naive", (2, 4, 2), (30, 60, 120, 240)),
    Variant("wider-naive-litehrnet-18", "naive", (2, 4, 2), (40, 80, 160, 320)),
)
VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType({variant.name: variant for variant in _FAMILY})
MULTIPLE: Final = 32  # pixels: the height and width of an image are multiples of it, so that every branch can be halved


def get_variant(name: str, keypoints: int = 17) -> Variant:
    """Return the variant of that name, for that many keypoints (COCO has 17, MPII 16).

    Raises:
        ModelError: there is none; the message names the known ones.
    """
    if name not in VARIANTS:
        raise ModelError(f"{name!r} is not a Lite-HRNet variant; known: {', '.join(VARIANTS)}")
    return replace(VARIANTS[name], keypoints=keypoints)


def parameters(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a checkpoint, in the order of the network.

    Keys are the authors': `backbone.…` and `final_layer.…` (their files prefix the latter with `keypoint_head.`). The
    `num_batches_tracked` of the batch norms are left out: inference does not need them.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(variant):
        match layer:
            case Conv():
                shapes[f"{layer.key}.weight"] = layer.shape
                if layer.bias:
                    shapes[f"{layer.key}.bias"] = (layer.outputs,)
            case Norm():
                shapes |= {f"{layer.key}.{part}": (layer.channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes


def parameter_count(variant: Variant) -> int:
    """Return the number of trainable parameters.

    The paper's tables say 1.1 M, 1.8 M, 0.7 M and 1.3 M in the order of `VARIANTS`; this gives 1.13, 1.76, 0.76 and 1.32 M:
    the third was truncated, not rounded.
    """
    return sum(prod(shape) for key, shape in parameters(variant).items() if not key.endswith(("running_mean", "running_var")))


def check_size(height: int, width: int) -> None:
    """Check that every branch can be halved.

    Raises:
        ModelError: height or width is not a multiple of 32.
    """
    if height % MULTIPLE or width % MULTIPLE or min(height, width) <= 0:
        raise ModelError(f"Lite-HRNet takes images of multiples of {MULTIPLE} pixels, not of height {height}, width {width}")


def multiply_adds(variant: Variant, height: int, width: int) -> int:
    """Return the operations for one image of `height` x `width` pixels, counted as the authors' tables count them.

    Divided by 2**20 (what the tables write M for) and rounded, this is every published number but one: the wider naive
    variant at 256x256 with 16 keypoints is 414.6, published as 418.7, which does not fit the published 311.1 at 256x192 either.

    The convention is that of the authors' `tools/torchstat`: a multiplication with its addition is one, and so is the
    addition of a bias; a batch norm is two a value, a rectifier one a value (of a rectifier that all branches of a module share
    only the coarsest branch counts, as the last call overwrites the others); the mean of a map of H x W is (H + 1)(W + 1) a
    channel; a nearest-neighbour upsampling is H x W whatever its channels. Sums of branches, products with weights, sigmoids,
    the pooling and resizing inside the weighting across resolutions and the head's bilinear resizing are free.

    Raises:
        ModelError: height or width is not a multiple of 32.
    """
    check_size(height, width)
    return sum(_operations(layer, height, width) for layer in layers(variant))


def _operations(layer: Layer, height: int, width: int) -> int:
    rows, columns = (1, 1) if layer.stride == POOLED else (height // layer.stride, width // layer.stride)
    match layer:
        case Conv():
            return rows * columns * layer.outputs * (layer.inputs // layer.groups * layer.kernel**2 + layer.bias)
        case Norm():
            return rows * columns * layer.channels * 2
        case Relu():
            return rows * columns * layer.channels
        case Pool():
            return (rows + 1) * (columns + 1) * layer.channels
        case Upsample():
            return rows * columns


def layers(variant: Variant) -> Iterator[Layer]:
    """Yield every layer with weights and every layer of the published counts, in the order of the checkpoint's keys."""
    yield from stem("backbone.stem", variant.stem_channels, variant.stem_channels * variant.stem_expansion)
    previous: tuple[int, ...] = (variant.stem_channels,)
    for stage, modules in enumerate(variant.modules):
        channels = variant.channels[: stage + 2]
        yield from transition(f"backbone.transition{stage}", previous, channels)
        for module in range(modules):
            key = f"backbone.stage{stage}.{module}"
            yield from _blocks(f"{key}.layers", variant, channels)
            yield from fuse(f"{key}.fuse_layers", channels)
        previous = channels
    yield from head("backbone.head_layer.projects", previous)
    yield Conv("final_layer", previous[0], variant.keypoints, FINEST, bias=True)


def _blocks(key: str, variant: Variant, channels: tuple[int, ...]) -> Iterator[Layer]:
    if variant.block == "naive":
        return naive_blocks(key, variant.blocks, channels)
    return lite_blocks(key, variant.blocks, channels, variant.cross_reduction, variant.spatial_reduction)
