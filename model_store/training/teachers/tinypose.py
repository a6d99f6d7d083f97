"""PP-TinyPose (PaddleDetection) as a teacher: an OpenVINO IR, which has the architecture of Wider Naive Lite-HRNet-18, map for map.

Its convolutions have their norms folded in; the numbers in the norms' names are the order in which they were made, which is the order
of the modules of `litehrnet.PoseNetwork`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from model_store.training import networks
from model_store.training.litehrnet import FusedModule
from model_store.training.teachers.files import FileTeacher, read_ir
from model_store.training.teachers.folded import put_folded
from posewire.errors import PosewireError
from posewire.types import FloatArray

NETWORK = "wider-naive-litehrnet-18"
_NUMBER = re.compile(r"(?:batch_norm2d|relu)_(\d+)\.")
_LAST = 1 << 30  # of the layer that no norm follows


def rebuild(file: Path) -> nn.Module:
    """The network with the weights of a file: (N, 3, H, W) RGB, normalised, to heatmaps (N, 17, H / 4, W / 4).

    Raises:
        PosewireError: the file cannot be read, OpenVINO is not installed, or it is another network.
    """
    _, model = read_ir(file)
    folded: dict[int, tuple[FloatArray, FloatArray]] = {}
    for layer in model.get_ordered_ops():
        if "Convolution" in layer.get_type_name():
            added = next(iter(layer.output(0).get_target_inputs())).get_node()
            found = _NUMBER.match(added.get_friendly_name())
            others = [source for source in _sources(added) if source != layer]
            weight = _constant(_sources(layer)[1])
            folded[int(found[1]) if found else _LAST] = weight, _constant(others[0])
    network = networks.build(NETWORK)
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    if len(convolutions) != len(folded):
        raise PosewireError(f"the teacher {file} has {len(folded)} convolutions, {NETWORK} has {len(convolutions)}")
    # Norms follow their convolutions in the order of the modules.
    following = iter([name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)])
    for name, number in zip(convolutions, sorted(folded), strict=True):
        convolution = network.get_submodule(name)
        norm = next(following) if convolution.bias is None else None
        try:
            put_folded(network, name, norm, *folded[number])
        except ValueError as error:
            raise PosewireError(f"the teacher {file} is not {NETWORK}: {name}: {error}") from None
    return network.eval()


def run_file(file: Path, places: Sequence[str]) -> FileTeacher:
    """The file itself, which gives its maps after modules.

    Raises:
        PosewireError: as `FileTeacher`, or the file does not name the maps of a place.
    """
    _, model = read_ir(file)
    relus = [layer for layer in model.get_ordered_ops() if layer.get_type_name() == "Relu"]
    # After a sum there is no norm, whose name would tell.
    fused = [layer.get_friendly_name() for layer in relus if _sources(layer)[0].get_friendly_name().startswith("tmp_")]
    names = iter(sorted(fused, key=lambda name: int(_NUMBER.match(name)[1])))  # type: ignore[index]
    network = networks.build(NETWORK)
    modules = {name: module for name, module in network.named_modules() if isinstance(module, FusedModule)}
    known = {name: [next(names) for _ in module.fuse_layers] for name, module in modules.items()}
    lacking = set(places) - set(known)
    if lacking:
        raise PosewireError(f"the file {file} does not name the maps of {sorted(lacking)[0]}: run it as a module")
    [answer] = [output.get_any_name() for output in model.outputs if len(output.partial_shape) == 4]
    return FileTeacher(file, [answer], {place: known[place] for place in places})


def _sources(layer: Any) -> list[Any]:
    return [each.get_source_output().get_node() for each in layer.inputs()]


def _constant(layer: Any) -> FloatArray:
    """The numbers of a constant, behind the layers that make float32 or another shape of them."""
    while layer.get_type_name() != "Constant":
        layer = _sources(layer)[0]
    return np.array(layer.data, np.float32)
