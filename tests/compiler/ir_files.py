"""OpenVINO IRs written line by line, so that tests need neither openvino nor a download."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posewire.registry.networks.litehrnet.layers import Conv, Norm
from posewire.registry.networks.litehrnet.spec import Variant, layers
from posewire.registry.weights.norms import bias_only
from posewire.types import FloatArray
from tests.compiler.test_graph import random_state

TINY = Variant("tiny", "naive", (1, 1, 1), (8, 16, 32, 64), keypoints=3)
IR_POSE = """
[[downloads]]
address = "{address}/model.xml"
mirror_name = "noise-ir.xml"
{proof}
variant = "wider-naive-litehrnet-18"
weights = {{ address = "{address}/model.bin", mirror_name = "noise-ir.bin", {weights_proof} }}

[downloads.model]
name = "noise-ir"
task = "pose"
title = "Weights at random"
licence = "CC0-1.0"
keypoints = "coco17"
input = {{ height = 96, width = 64, colour = "RGB", mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375] }}
output = {{ layout = "heatmaps", stride = 4, sigma = 2.0, flip_shift = 1 }}
provenance = {{ made_by = "a test", data = "none", recipe = "none" }}
"""


def folded_state(variant: Variant) -> dict[str, FloatArray]:
    """Weights at random that float16 holds exactly; norms add a bias and do nothing else."""
    state = {key: values.astype(np.float16).astype(np.float32) for key, values in random_state(variant).items()}
    for layer in layers(variant):
        if isinstance(layer, Norm):
            state |= bias_only(layer.key, state[f"{layer.key}.bias"])
    return state


@dataclass(slots=True)
class _Writer:
    layers: list[str] = field(default_factory=list)
    edges: list[str] = field(default_factory=list)
    data: bytes = b""

    def layer(self, name: str, kind: str, attributes: str = "", *inputs: int) -> int:
        at = len(self.layers)
        self.layers.append(f'<layer id="{at}" name="{name}" type="{kind}" version="opset1"><data {attributes}/></layer>')
        for port, source in enumerate(inputs):
            self.edges.append(f'<edge from-layer="{source}" from-port="0" to-layer="{at}" to-port="{port}"/>')
        return at

    def constant(self, name: str, values: FloatArray, kind: str) -> int:
        content = values.astype({"f16": "<f2", "f32": "<f4"}[kind]).tobytes()
        shape = ", ".join(map(str, values.shape))
        attributes = f'element_type="{kind}" shape="{shape}" offset="{len(self.data)}" size="{len(content)}"'
        self.data += content
        return self.layer(name, "Convert", "", self.layer(f"{name}_compressed", "Const", attributes))


def ir_of(variant: Variant, state: dict[str, FloatArray], kind: str = "f16") -> tuple[bytes, bytes]:
    """The XML and the constants of an IR with all convolutions of a variant, which lie in no order.

    Args:
        variant: of the network.
        state: as of `folded_state`.
        kind: of the constants, f16 or f32.
    """
    writer = _Writer()
    image = writer.layer("image", "Parameter")
    convolutions = [layer for layer in layers(variant) if isinstance(layer, Conv | Norm)]
    numbered = [(n, conv) for n, conv in enumerate(convolutions) if isinstance(conv, Conv)]
    for n, conv in random.Random(0).sample(numbered, len(numbered)):
        weight = state[f"{conv.key}.weight"]
        if conv.groups > 1:
            weight = weight.reshape(conv.groups, -1, *weight.shape[1:])
        bias = state[f"{conv.key}.bias" if conv.bias else f"{convolutions[n + 1].key}.bias"]
        made = writer.layer(
            f"Multiply_{n}", "GroupConvolution" if conv.groups > 1 else "Convolution", "", image, writer.constant(f"w{n}", weight, kind)
        )
        summand = writer.constant(f"b{n}", bias.reshape(1, -1, 1, 1), kind)
        writer.layer("conv2d_7.tmp_1" if conv.bias else f"batch_norm2d_{n}.w_1", "Add", "", made, summand)
    parts = ['<?xml version="1.0"?>\n<net name="Model0" version="11">', "<layers>", *writer.layers, "</layers>", "<edges>", *writer.edges]
    return "\n".join([*parts, "</edges>", "</net>"]).encode(), writer.data


def write_ir(folder: Path, graph: bytes, weights: bytes, name: str = "net") -> tuple[Path, Path]:
    """Write an IR; the paths of its two files."""
    paths = folder / f"{name}.xml", folder / f"{name}.bin"
    for path, content in zip(paths, (graph, weights), strict=True):
        path.write_bytes(content)
    return paths
