"""A pose network of a backbone made for classification: four maps of falling size, Lite-HRNet's head, one 1x1 convolution.

The usual head, three transposed convolutions of 4x4 with 256 channels (Xiao et al., arXiv 1804.06208), would be most of such a
network's cost and hide what becomes of the backbone. This one is depthwise and 1x1 convolutions on the way from the coarsest
map to the finest, as in Lite-HRNet, and takes in the finer maps that the backbone has made anyway.
"""

# A module's docstring tells of its forward.
# ruff: noqa: D102

from abc import ABC, abstractmethod

from torch import Tensor, nn

from model_store.training.blocks import IterativeHead


class Pyramid(nn.Module, ABC):
    """(N, 3, H, W) to its maps at strides 4, 8, 16 and 32, finest first; H and W are multiples of 32."""

    channels: tuple[int, ...]  # of the maps, finest first

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]: ...


class PyramidPoseNetwork(nn.Module):
    """(N, 3, H, W) to (N, keypoints, H / 4, W / 4) logits of heatmaps."""

    def __init__(self, backbone: Pyramid, keypoints: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head_layer = IterativeHead(backbone.channels)
        self.final_layer = nn.Conv2d(backbone.channels[0], keypoints, 1)

    def forward(self, image: Tensor) -> Tensor:
        heatmaps: Tensor = self.final_layer(self.head_layer(self.backbone(image)))
        return heatmaps
