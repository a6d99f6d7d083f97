"""Weights with batch normalisation folded in: one weight and one bias a convolution, as a safetensors file.

The file's metadata say what network the weights are of, so that it needs no other description.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.layers import Conv, Norm
from posewire.registry.networks.litehrnet.spec import VARIANTS, Variant, get_variant, layers
from posewire.registry.weights.norms import scale_and_shift
from posewire.registry.weights.safetensors import read_safetensors, write_safetensors
from posewire.registry.weights.tensors import MalformedError
from posewire.types import FloatArray

_FORMAT: Final = "posewire-kernels-1"


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A network's weights."""

    variant: Variant
    sigmoid: bool  # the heatmaps are sigmoids of what the last layer gives
    state: Mapping[str, FloatArray]  # `KEY.weight` (O, I / groups, k, k) and `KEY.bias` (O,) for every convolution of the variant


def fold(variant: Variant, state: Mapping[str, FloatArray], *, sigmoid: bool) -> Folded:
    """Fold the batch norms of a checkpoint into its convolutions.

    Args:
        variant: of the checkpoint.
        state: its tensors, as `checkpoint.require` returns them.
        sigmoid: for checkpoints that were trained to give logits.
    """
    folded: dict[str, FloatArray] = {}
    convolution: Conv | None = None
    for layer in layers(variant):
        if isinstance(layer, Conv):
            convolution = layer
            folded[f"{layer.key}.weight"] = state[f"{layer.key}.weight"]
            folded[f"{layer.key}.bias"] = state[f"{layer.key}.bias"] if layer.bias else np.zeros(layer.outputs, np.float32)
        elif isinstance(layer, Norm) and convolution is not None:
            scale, shift = scale_and_shift(state, layer.key)
            weight = state[f"{convolution.key}.weight"].astype(np.float64) * scale[:, None, None, None]
            folded[f"{convolution.key}.weight"] = weight.astype(np.float32)
            folded[f"{convolution.key}.bias"] = shift.astype(np.float32)
    return Folded(variant, sigmoid, folded)


def write(folded: Folded) -> bytes:
    """The safetensors file of the weights, the same bytes for the same weights."""
    variant = folded.variant
    told = {"format": _FORMAT, "variant": variant.name, "keypoints": str(variant.keypoints), "sigmoid": str(folded.sigmoid).lower()}
    return write_safetensors(folded.state, told)


def read(data: bytes, name: str) -> Folded:
    """Weights from a file that `write` made.

    Args:
        data: its bytes.
        name: of the model, for errors.

    Raises:
        ModelError: the bytes are damaged, of another format, or not all the weights of the variant that they name.
    """
    try:
        state, told = read_safetensors(data)
    except MalformedError as fault:
        raise ModelError(f"{name}: the weights for the kernels cannot be read: {fault}") from None
    if told.get("format") != _FORMAT or told.get("variant") not in VARIANTS or not told.get("keypoints", "").isdecimal():
        raise ModelError(f"{name}: not weights for the kernels; make them with `posewire models compile … --out FILE.safetensors`")
    variant = get_variant(told["variant"], int(told["keypoints"]))
    if {key: array.shape for key, array in state.items()} != _shapes(variant) or any(a.dtype != np.float32 for a in state.values()):
        raise ModelError(f"{name}: not the weights of {variant.name} that the file says it holds")
    return Folded(variant, told.get("sigmoid") == "true", state)


def _shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(variant):
        if isinstance(layer, Conv):
            shapes[f"{layer.key}.weight"] = layer.shape
            shapes[f"{layer.key}.bias"] = (layer.outputs,)
    return shapes
