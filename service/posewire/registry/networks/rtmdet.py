"""RTMDet-nano for people as data: every layer and weight, without a tensor library.

RTMDet is Lyu et al., 2022, arXiv 2212.07784: a CSPNeXt backbone, a PAFPN neck and a head with separate branches for the score and for
the box at each of three strides. This is the nano size (depth 0.33, width 0.25, depthwise separable convolutions) with one class.
Key names are those of mmdet's checkpoints, where every head has weights of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from posewire.errors import ModelError

Activation: TypeAlias = Literal["silu", "relu"]

STRIDES: Final = (8, 16, 32)  # input pixels a grid cell
MULTIPLE: Final = STRIDES[-1]  # pixels: height and width of the input are multiples of it
NECK: Final = 64  # channels of each map that the heads read
BOX: Final = 4  # distances from a cell's point to the sides: left, top, right, bottom, in strides
MEAN: Final = (123.675, 116.28, 103.53)  # of the channels R, G, B, 0..255
STD: Final = (58.395, 57.12, 57.375)  # likewise

_STEM: Final = (8, 8, 16)  # channels
_STAGES: Final = (32, 64, 128, 256)  # channels
_BLOCKS: Final = (1, 2, 2, 1)  # residual blocks of each stage
_HEAD_CONVS: Final = 2


@dataclass(frozen=True, slots=True)
class DetectorVariant:
    """One member: the same weights by name and shape, with other activations.

    The published network has SiLU everywhere. A distilled student needs SiLU only for the maps that are compared with the
    teacher's. Elsewhere it has a rectifier, which is fused with the convolution before it and costs nothing.
    """

    name: str
    stem: Activation
    boundary: Activation = "silu"  # at the end of each downsampling, CSP layer, pooling and convolution of the neck
    inner: Activation = "relu"  # everywhere else


_VARIANTS: Final = (
    DetectorVariant("rtmdet-nano", stem="silu", inner="silu"),
    DetectorVariant("rtmdet-nano-lean", stem="silu"),
)
DETECTOR_VARIANTS: Final[Mapping[str, DetectorVariant]] = MappingProxyType({variant.name: variant for variant in _VARIANTS})


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution, padded by half its kernel; with a batch norm and an activation, or with a bias and neither."""

    key: str
    inputs: int  # channels
    outputs: int  # channels
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    activation: Activation | None = None  # None: it has a bias

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight: (O, I / groups, k, k)."""
        return self.outputs, self.inputs // self.groups, self.kernel, self.kernel


@dataclass(frozen=True, slots=True)
class Csp:
    """A cross-stage partial layer: half of the channels pass residual blocks, half do not."""

    key: str
    inputs: int  # channels
    outputs: int  # channels
    blocks: int
    add: bool  # blocks add their input to their output
    attention: bool  # channels are weighted by their means


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Max pools over windows of 1, 5, 9 and 13 cells, concatenated (SPP)."""

    key: str
    channels: int


class Layers:
    """The parts of a variant by their position in the network."""

    def __init__(self, variant: DetectorVariant) -> None:
        self.variant = variant

    @property
    def stem(self) -> tuple[Conv, ...]:
        """Three 3x3 convolutions, the first of stride 2."""
        inputs = (3, *_STEM[:-1])
        return tuple(
            Conv(f"backbone.stem.{i}", a, b, 3, 2 if i == 0 else 1, activation=self.variant.stem)
            for i, (a, b) in enumerate(zip(inputs, _STEM, strict=True))
        )

    def separable(self, key: str, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, inner: bool = True) -> tuple[Conv, Conv]:
        """Return a depthwise convolution and a 1x1 convolution; `inner`: no boundary follows."""
        within = self.variant.inner
        spatial = Conv(f"{key}.depthwise_conv", inputs, inputs, kernel, stride, groups=inputs, activation=within)
        return spatial, Conv(f"{key}.pointwise_conv", inputs, outputs, activation=within if inner else self.variant.boundary)

    def stage(self, number: int) -> tuple[tuple[Conv, Conv], Pyramid | None, Csp]:
        """Return a stage of the backbone, counted from 0: a separable convolution of stride 2, in the last the pyramid, a CSP layer."""
        key = f"backbone.stage{number + 1}"
        inputs, outputs, last = (_STEM[-1], *_STAGES)[number], _STAGES[number], number == len(_STAGES) - 1
        down = self.separable(f"{key}.0", inputs, outputs, stride=2, inner=False)
        pyramid = Pyramid(f"{key}.1", outputs) if last else None
        return down, pyramid, Csp(f"{key}.{2 if last else 1}", outputs, outputs, _BLOCKS[number], add=not last, attention=True)

    @property
    def reduce(self) -> tuple[Conv, Conv]:
        """1x1 convolutions of the neck's top-down path, from the coarsest map."""
        return (
            Conv("neck.reduce_layers.0", 256, 128, activation=self.variant.boundary),
            Conv("neck.reduce_layers.1", 128, 64, activation=self.variant.boundary),
        )

    @property
    def top_down(self) -> tuple[Csp, Csp]:
        """CSP layers of the neck's top-down path, after each enlargement and concatenation."""
        return self._neck_csp("top_down_blocks.0", 256, 128), self._neck_csp("top_down_blocks.1", 128, 64)

    @property
    def downsamples(self) -> tuple[tuple[Conv, Conv], tuple[Conv, Conv]]:
        """Separable convolutions of stride 2 of the neck's bottom-up path."""
        return self.separable("neck.downsamples.0", 64, 64, stride=2), self.separable("neck.downsamples.1", 128, 128, stride=2)

    @property
    def bottom_up(self) -> tuple[Csp, Csp]:
        """CSP layers of the neck's bottom-up path, after each concatenation."""
        return self._neck_csp("bottom_up_blocks.0", 128, 128), self._neck_csp("bottom_up_blocks.1", 256, 256)

    @property
    def outputs(self) -> tuple[tuple[Conv, Conv], ...]:
        """Convolutions between the neck's three maps, finest first, and the heads."""
        return tuple(self.separable(f"neck.out_convs.{i}", c, NECK, inner=False) for i, c in enumerate((64, 128, 256)))

    def head(self, level: int, branch: Literal["cls", "reg"]) -> tuple[Conv, ...]:
        """Return the convolutions of a stride's branch; the last outputs the score's logit (cls) or the box (reg)."""
        hidden = [conv for i in range(_HEAD_CONVS) for conv in self.separable(f"bbox_head.{branch}_convs.{level}.{i}", NECK, NECK)]
        return *hidden, Conv(f"bbox_head.rtm_{branch}.{level}", NECK, 1 if branch == "cls" else BOX)

    def csp_convs(self, csp: Csp) -> tuple[Conv, Conv, tuple[tuple[Conv, ...], ...], Conv]:
        """Return the convolutions of a CSP layer: main path, shortcut, each block, and the one after the concatenation."""
        half, within = csp.outputs // 2, self.variant.inner
        main = Conv(f"{csp.key}.main_conv", csp.inputs, half, activation=within)
        short = Conv(f"{csp.key}.short_conv", csp.inputs, half, activation=within)
        blocks = tuple(
            self.separable(f"{csp.key}.blocks.{i}.conv1", half, half) + self.separable(f"{csp.key}.blocks.{i}.conv2", half, half, 5)
            for i in range(csp.blocks)
        )
        return main, short, blocks, Conv(f"{csp.key}.final_conv", csp.outputs, csp.outputs, activation=self.variant.boundary)

    def pyramid_convs(self, pyramid: Pyramid) -> tuple[Conv, Conv]:
        """Return the convolutions before and after the max pools."""
        c = pyramid.channels
        return (
            Conv(f"{pyramid.key}.conv1", c, c // 2, activation=self.variant.inner),
            Conv(f"{pyramid.key}.conv2", 2 * c, c, activation=self.variant.boundary),
        )

    def __iter__(self) -> Iterator[Conv]:
        """Yield every convolution with a batch norm or a bias of its own, in the order of the network; attention is not among them."""
        yield from self.stem
        for number in range(len(_STAGES)):
            down, pyramid, csp = self.stage(number)
            yield from down
            if pyramid:
                yield from self.pyramid_convs(pyramid)
            yield from self._of_csp(csp)
        yield from self.reduce
        for top_down in self.top_down:
            yield from self._of_csp(top_down)
        for down in self.downsamples:
            yield from down
        for bottom_up in self.bottom_up:
            yield from self._of_csp(bottom_up)
        for out in self.outputs:
            yield from out
        for level in range(len(STRIDES)):
            yield from self.head(level, "cls")
            yield from self.head(level, "reg")

    @property
    def attentions(self) -> Iterator[tuple[str, int]]:
        """Key and channels of each attention convolution, which weights channels by their means."""
        for number in range(len(_STAGES)):
            *_, csp = self.stage(number)
            yield f"{csp.key}.attention.fc", csp.outputs

    def _of_csp(self, csp: Csp) -> Iterator[Conv]:
        main, short, blocks, final = self.csp_convs(csp)
        yield main
        yield short
        for block in blocks:
            yield from block
        yield final

    def _neck_csp(self, name: str, inputs: int, outputs: int) -> Csp:
        return Csp(f"neck.{name}", inputs, outputs, 1, add=False, attention=False)


def get_detector_variant(name: str) -> DetectorVariant:
    """Return the variant of that name.

    Raises:
        ModelError: there is none; the message names the known ones.
    """
    if name not in DETECTOR_VARIANTS:
        raise ModelError(f"{name!r} is not a detector variant; known: {', '.join(DETECTOR_VARIANTS)}")
    return DETECTOR_VARIANTS[name]


def parameters(variant: DetectorVariant) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a checkpoint; `num_batches_tracked` of batch norms is left out."""
    layers = Layers(variant)
    shapes: dict[str, tuple[int, ...]] = {}
    for conv in layers:
        if conv.activation is None:
            shapes |= {f"{conv.key}.weight": conv.shape, f"{conv.key}.bias": (conv.outputs,)}
        else:
            shapes[f"{conv.key}.conv.weight"] = conv.shape
            shapes |= {f"{conv.key}.bn.{part}": (conv.outputs,) for part in ("weight", "bias", "running_mean", "running_var")}
    for key, channels in layers.attentions:
        shapes |= {f"{key}.weight": (channels, channels, 1, 1), f"{key}.bias": (channels,)}
    return shapes


def check_size(height: int, width: int) -> None:
    """Check that the strides divide the size of the input.

    Raises:
        ModelError: height or width is not a multiple of 32.
    """
    if height % MULTIPLE or width % MULTIPLE or min(height, width) <= 0:
        raise ModelError(f"a detector takes images of multiples of {MULTIPLE} pixels, not of height {height}, width {width}")
