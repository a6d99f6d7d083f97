"""The recogniser of `rtmdet`."""

from typing import Any, Final

import numpy as np

from posewire.tools.adding.layouts.base import STRIDES, Layout, Probe, Told, register_recogniser

_BOX: Final = 4


@register_recogniser
def rtmdet(probe: Probe) -> list[Layout]:
    """Return `rtmdet` for one or two maps of each stride."""
    shapes = probe.floats()
    if len(shapes) not in (len(STRIDES), 2 * len(STRIDES)) or any(len(shape) != 3 for shape in shapes.values()):
        return []
    for order in ("first", "last"):
        maps = {name: _as_map(shape, order) for name, shape in shapes.items()}
        by_stride = {
            stride: [
                (name, channels) for name, (channels, *size) in maps.items() if size == [probe.height // stride, probe.width // stride]
            ]
            for stride in STRIDES
        }
        count = len(shapes) // len(STRIDES)
        if any(len(level) != count for level in by_stride.values()):
            continue
        levels = [sorted(by_stride[stride], key=lambda one: one[1] == _BOX) for stride in STRIDES]  # scores, then distances
        channels = [tuple(channels for _, channels in level) for level in levels]
        if len(set(channels)) != 1 or (count == 2 and channels[0][1] != _BOX) or (count == 1 and channels[0][0] <= _BOX):
            continue
        names = tuple(level[part][0] for part in range(count) for level in levels)
        classes = channels[0][0] - (_BOX if count == 1 else 0)
        scores = np.concatenate([_channels(probe.outputs[level[0][0]], order)[:classes].ravel() for level in levels])
        logits = bool(((scores < 0) | (scores > 1)).any())
        parameters = {"outputs": names, "channels": order, "scores": "logits" if logits else "probabilities"}
        told = {"strides": Told(STRIDES, "the number of cells")}
        asked = {"distances": "pixels or strides: the unit of the boxes; mmdet has pixels"}
        how = f"{len(names)} maps for strides {STRIDES}; scores {'outside' if logits else 'within'} 0..1 on the image"
        return [Layout("detector", "rtmdet", how, parameters, told, asked, classes=classes)]
    return []


def _as_map(shape: tuple[int, ...], order: str) -> tuple[int, ...]:
    return shape if order == "first" else (shape[2], shape[0], shape[1])


def _channels(values: Any, order: str) -> Any:
    return values[0] if order == "first" else values[0].transpose(2, 0, 1)
