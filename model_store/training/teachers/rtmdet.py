"""RTMDet-nano for people (OpenMMLab) as a teacher: an ONNX export, whose layers' names tell where in `rtmdet.RtmDet` they belong."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor

from model_store.training.rtmdet import RtmDet, build, last_norm
from model_store.training.teachers.files import FileTeacher
from posewire.errors import PosewireError
from posewire.registry.networks.rtmdet import STRIDES, get_detector_variant
from posewire.tools.compiler.rtmdet.published import published_weights

NETWORK = "rtmdet-nano"


def rebuild(file: Path) -> RtmDet:
    """The network with the weights of a file: (N, 3, H, W) BGR, normalised, H and W multiples of 32.

    Raises:
        PosewireError: the file cannot be read, or is another network.
    """
    weights = published_weights(_read(file), get_detector_variant(NETWORK), str(file))
    network = build(NETWORK)
    network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()}, strict=False)  # but for counts of batches
    network.eval()
    return network


def run_file(file: Path, places: Sequence[str]) -> FileTeacher:
    """The file itself.

    Raises:
        PosewireError: as `FileTeacher`, or the file is another network.
    """
    graph = onnx.load_from_string(_read(file)).graph
    made = {output for node in graph.node for output in node.output}
    network = build(NETWORK)
    names = {module: name for name, module in network.named_modules()}
    maps = {}
    for place in places:
        layer = names[last_norm(network.get_submodule(place))].removesuffix(".bn")
        maps[place] = [f"/model/{_scope(layer)}/activate/Mul_output_0"]
    lacking = [name for [name] in maps.values() if name not in made]
    if lacking:
        raise PosewireError(f"the teacher {file} is not {NETWORK}: it has no {lacking[0]}")
    return FileTeacher(file, [output.name for output in graph.output], maps, _as_network)


def _scope(layer: str) -> str:
    """A module's name as an exporter writes it: `backbone.stage1.0.pointwise_conv` to `backbone/stage1/stage1.0/pointwise_conv`.

    Modules in a list keep their number beside the list's name; a sequence is a scope of its own.
    """
    pieces: list[str] = []
    for piece in layer.split("."):
        if not piece.isdigit():
            pieces.append(piece)
        elif pieces[-1].startswith(("stem", "stage", "blocks")):
            pieces.append(f"{pieces[-1]}.{piece}")
        else:
            pieces[-1] += f".{piece}"
    return "/".join(pieces)


def _as_network(answer: list[Tensor]) -> list[Tensor]:
    """Maps (N, h, w, 5) whose distances are in pixels to the network's (N, 5, h, w) in strides."""
    maps = [each.permute(0, 3, 1, 2).clone() for each in answer]
    for each, stride in zip(maps, STRIDES, strict=True):
        each[:, 1:] /= stride
    return maps


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PosewireError(f"the teacher {file} cannot be read: {error.strerror}") from None
