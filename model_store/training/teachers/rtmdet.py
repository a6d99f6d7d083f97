"""RTMDet-nano for people (OpenMMLab) as a teacher: an ONNX export, whose layers' names tell where in `rtmdet.RtmDet` they belong."""

import re
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import numpy_helper
from torch import Tensor, nn

from model_store.training.detection.boxes import STRIDES
from model_store.training.rtmdet import RtmDet, last_norm
from model_store.training.teachers.files import FileTeacher
from model_store.training.teachers.folded import put_folded
from posewire.errors import PosewireError


def rebuild(file: Path) -> RtmDet:
    """The network with the weights of a file: (N, 3, H, W) BGR, normalised, H and W multiples of 32.

    Raises:
        PosewireError: the file cannot be read, or is another network.
    """
    graph = _read(file).graph
    arrays = {each.name: each for each in graph.initializer}
    network = RtmDet("silu")
    convolutions = {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    nodes = _convolutions(graph)
    if set(nodes) != convolutions:
        odd = sorted(set(nodes) ^ convolutions)[0]
        raise PosewireError(f"the teacher {file} is not RTMDet-nano: {odd} is in one of them only")
    for name, node in nodes.items():
        _, weight, bias = node.input
        norm = None if network.get_submodule(name).bias is not None else f"{name.removesuffix('.conv')}.bn"
        try:
            put_folded(network, name, norm, numpy_helper.to_array(arrays[weight]), numpy_helper.to_array(arrays[bias]))
        except (ValueError, KeyError) as error:
            raise PosewireError(f"the teacher {file} is not RTMDet-nano: {name}: {error}") from None
    network.eval()
    return network


def run_file(file: Path, places: Sequence[str]) -> FileTeacher:
    """The file itself.

    Raises:
        PosewireError: as `FileTeacher`, or the file is another network.
    """
    model = _read(file)
    nodes = _convolutions(model.graph)
    network = RtmDet("silu")
    names = {module: name for name, module in network.named_modules()}
    try:
        norms = {place: names[last_norm(network.get_submodule(place))] for place in places}
        layers = {place: nodes[f"{norm.removesuffix('.bn')}.conv"].name for place, norm in norms.items()}
    except (KeyError, AttributeError) as error:
        raise PosewireError(f"the teacher {file} is not RTMDet-nano: it has no {error}") from None
    maps = {place: [f"{layer.removesuffix('/conv/Conv')}/activate/Mul_output_0"] for place, layer in layers.items()}
    return FileTeacher(file, [output.name for output in model.graph.output], maps, _as_network)


def _as_network(answer: list[Tensor]) -> list[Tensor]:
    """Maps (N, h, w, 5) whose distances are in pixels to the network's (N, 5, h, w) in strides."""
    maps = [each.permute(0, 3, 1, 2).clone() for each in answer]
    for each, stride in zip(maps, STRIDES, strict=True):
        each[:, 1:] /= stride
    return maps


def _convolutions(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Nodes by the names of the network's modules."""
    return {_module(node.name): node for node in graph.node if node.op_type == "Conv"}


def _module(node: str) -> str:
    """`/model/backbone/stage1/stage1.0/depthwise_conv/conv/Conv` to `backbone.stage1.0.depthwise_conv.conv`."""
    path = re.sub(r"(\w+)/\1\.", r"\1.", node.removeprefix("/model/").removesuffix("/Conv")).replace("/", ".")
    return f"bbox_head.{path}" if path.startswith(("cls_convs.", "reg_convs.", "rtm_")) else path


def _read(file: Path) -> onnx.ModelProto:
    try:
        return onnx.load(file)
    except OSError as error:
        raise PosewireError(f"the teacher {file} cannot be read: {error.strerror}") from None
    except Exception as error:  # protobuf has a class of its own
        raise PosewireError(f"the teacher {file} is not ONNX: {type(error).__name__}") from None
