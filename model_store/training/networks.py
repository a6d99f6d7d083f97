"""The pose networks by name."""

from collections.abc import Callable

from torch import nn

from model_store.training import litehrnet
from model_store.training.mobilenet import MobileNetV2
from model_store.training.pyramid import PyramidPoseNetwork
from model_store.training.shufflenet import ShuffleNetV2
from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.spec import VARIANTS, get_variant

# `-ccw`: with conditional channel weighting in place of 1x1 convolutions.
_PYRAMIDS: dict[str, Callable[[int], nn.Module]] = {
    "shufflenetv2": lambda keypoints: PyramidPoseNetwork(ShuffleNetV2(weighted=False), keypoints),
    "shufflenetv2-ccw": lambda keypoints: PyramidPoseNetwork(ShuffleNetV2(weighted=True), keypoints),
    "mobilenetv2": lambda keypoints: PyramidPoseNetwork(MobileNetV2(weighted=False), keypoints),
    "mobilenetv2-ccw": lambda keypoints: PyramidPoseNetwork(MobileNetV2(weighted=True), keypoints),
}
NAMES = (*VARIANTS, *_PYRAMIDS)


def build(name: str, keypoints: int = 17) -> nn.Module:
    """A network with random weights: (N, 3, H, W) float32 to (N, keypoints, H / 4, W / 4) logits of heatmaps.

    H and W are multiples of 32.

    Raises:
        ModelError: there is no such network; the message names those that there are.
    """
    if name in VARIANTS:
        return litehrnet.PoseNetwork(get_variant(name, keypoints))
    if name in _PYRAMIDS:
        return _PYRAMIDS[name](keypoints)
    raise ModelError(f"{name!r} is not a pose network; known: {', '.join(NAMES)}")
