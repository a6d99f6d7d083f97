"""The weights of the published RTMDet-nano from its ONNX export."""

import re
from collections.abc import Mapping
from typing import Final

import onnx
from onnx import numpy_helper

from posewire.errors import ModelError
from posewire.registry.networks.rtmdet import DetectorVariant, Layers, parameters
from posewire.registry.weights.norms import bias_only
from posewire.tools.compiler.litehrnet.checkpoint import require
from posewire.types import FloatArray

# An exporter repeats the number of a block in its name: stage1/stage1.0 is backbone.stage1.0.
_REPEATED: Final = re.compile(r"(stem|stage\d|blocks)\.(?=\1\.)")


def published_weights(model: bytes, variant: DetectorVariant, source: str) -> dict[str, FloatArray]:
    """Return the state dict of a variant, from an ONNX file whose convolutions have mmdet's names and batch norms folded into them.

    Args:
        model: the file's bytes, as torch exports the raw outputs of the three strides.
        variant: has the expected names and shapes.
        source: of the file, for errors.

    Returns:
        As `spec.parameters` describes it; each batch norm only adds the convolution's bias.

    Raises:
        ModelError: the file is damaged, or is not this network.
    """
    try:
        graph = onnx.load_from_string(model).graph
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except Exception as error:  # protobuf raises errors of its own, onnx of several kinds
        raise ModelError(f"{source}: not an ONNX file that can be read: {type(error).__name__}") from None
    found = {
        _key(node.name): [arrays[name] for name in node.input[1:] if name in arrays]
        for node in graph.node
        if node.op_type == "Conv"
    }  # fmt: skip
    return require(_state(found, Layers(variant)), parameters(variant), source=source)


def _key(node: str) -> str:
    """Return mmdet's key of a convolution, from the name of its node."""
    name = node.removeprefix("/model/").removesuffix("/Conv").removesuffix("/conv").replace("/", ".")
    name = _REPEATED.sub("", name)
    return f"bbox_head.{name}" if name.startswith(("cls_convs", "reg_convs", "rtm_cls", "rtm_reg")) else name


def _state(found: Mapping[str, list[FloatArray]], layers: Layers) -> dict[str, FloatArray]:
    """Return the tensors that are present, by their names in a checkpoint."""
    state: dict[str, FloatArray] = {}
    plain = [conv.key for conv in layers if conv.activation is None] + [key for key, _ in layers.attentions]
    for key, tensors in found.items():
        if len(tensors) != 2:
            continue
        weight, bias = tensors
        if key in plain:
            state |= {f"{key}.weight": weight, f"{key}.bias": bias}
            continue
        state |= {f"{key}.conv.weight": weight, **bias_only(f"{key}.bn", bias)}
    return state
