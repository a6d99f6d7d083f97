"""The options of the graph compiler, checked before anything is compiled."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, TypeAlias

from posewire.errors import ModelError
from posewire.tools.compiler.litehrnet.passes import Passes
from posewire.types import InputFormat

OutputLayout: TypeAlias = Literal["heatmaps", "keypoints"]
Precision: TypeAlias = Literal["fp32", "fp16"]
Colours: TypeAlias = tuple[float, float, float]

# Of ImageNet, as in the training of the published checkpoints.
MEAN: Colours = (123.675, 116.28, 103.53)
STD: Colours = (58.395, 57.12, 57.375)
_LARGEST_SIGMA = 16.0  # heatmap pixels: the pixels read around a peak grow with its square


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """The input, the output and the precision of a graph.

    Raises:
        ModelError: a value is out of range, or belongs to another choice; the message names it.
    """

    input: InputFormat = "float32-nchw"
    mean: Colours | None = None  # of channels 0..255, in the network's order of colours; for uint8, None: ImageNet's
    std: Colours | None = None  # likewise
    output: OutputLayout = "heatmaps"
    sigma: float | None = None  # heatmap pixels: of DARK's Gaussian; for the output keypoints
    sigmoid: bool = False  # for checkpoints that were trained to output logits: the heatmaps are their sigmoids
    precision: Precision = "fp32"
    passes: Passes = field(default_factory=Passes)

    def __post_init__(self) -> None:
        self._check_colours()
        self._check_sigma()

    def _check_colours(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and self.input == "float32-nchw":
                raise ModelError(f"{name} is for uint8 inputs: a float32-nchw graph takes images that are normalised already")
            if values is not None and not all(map(isfinite, values)):
                raise ModelError(f"{name} must be three finite numbers, not {values}")
        if self.std is not None and min(self.std) <= 0:
            raise ModelError(f"std must be above 0, not {self.std}")

    def _check_sigma(self) -> None:
        if self.output == "heatmaps" and self.sigma is not None:
            raise ModelError("sigma is for the output keypoints: heatmaps are decoded by whoever reads them")
        if self.output == "keypoints" and self.sigma is None:
            raise ModelError("the output keypoints needs sigma, that of the Gaussians that the training targets were drawn with")
        if self.sigma is not None and not 0 < self.sigma <= _LARGEST_SIGMA:
            raise ModelError(f"sigma must be above 0 and at most {_LARGEST_SIGMA:g} heatmap pixels, not {self.sigma}")
