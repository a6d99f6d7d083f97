"""The weights of a Lite-HRNet from an OpenVINO IR: an XML file with the graph, and a binary file with its constants.

The IR lists operations and constants as `layer` elements, and their connections as `edge` elements; a constant is a range of
bytes of the binary file. https://docs.openvino.ai/2024/documentation/openvino-ir-format.html describes the format.

PaddleDetection's PP-TinyPose is the variant wider-naive-litehrnet-18. Its batch norms are folded into the convolutions, and each
convolution is followed by an addition of its bias. That addition keeps the name of the norm, `batch_norm2d_N…`, with numbers in
the order in which the network was built, which is the order of a checkpoint. The last convolution has no norm.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, prod
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

import numpy as np

from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.layers import Conv, Norm
from posewire.registry.networks.litehrnet.spec import Variant, layers
from posewire.registry.weights.norms import bias_only
from posewire.registry.weights.tensors import MalformedError, quoted
from posewire.types import FloatArray

_MAX_GRAPH_BYTES: Final = 1 << 23  # PP-TinyPose has 1.5 MB
_MAX_WEIGHTS_BYTES: Final = 1 << 28
_MAX_DEPTH: Final = 32  # nested elements; an IR has 5
_TYPES: Final[Mapping[str, np.dtype[Any]]] = {"f16": np.dtype("<f2"), "f32": np.dtype("<f4")}
_CONVOLUTIONS: Final = ("Convolution", "GroupConvolution")
_NORM: Final = re.compile(r"batch_norm2d_([0-9]{1,6})\b")
_SIZES: Final = re.compile(r"[0-9]{1,9}(?:, ?[0-9]{1,9}){0,5}")


def read_ir(graph: Path, weights: Path, variant: Variant) -> dict[str, FloatArray]:
    """Read the tensors of a variant from an IR, by the names of a checkpoint; each norm only adds a bias.

    Only the convolutions of the graph are read: their connections are not checked.

    Args:
        graph: the XML file.
        weights: the file of the constants, float16 or float32.
        variant: of the network.

    Returns:
        float32 arrays in C order. Their shapes are those of the file, so `require` has to check them.

    Raises:
        ModelError: a file cannot be read, is damaged, or has other convolutions than the variant.
    """
    try:
        found = _convolutions(_parse(_content(graph, _MAX_GRAPH_BYTES)))
        return _state(variant, found, _content(weights, _MAX_WEIGHTS_BYTES))
    except MalformedError as fault:
        raise ModelError(f"{graph}: {fault}") from None


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    kind: str
    data: dict[str, str] = field(default_factory=dict)  # the attributes of its `data` element


@dataclass(frozen=True, slots=True)
class _Graph:
    layers: dict[str, _Layer] = field(default_factory=dict)  # by their ids
    sources: dict[tuple[str, str], str] = field(default_factory=dict)  # id and input port, to the id of the source
    readers: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # id, to the ids and input ports that read it

    def source(self, layer: str, port: str) -> str:
        """Return the id of the layer that is connected to an input."""
        try:
            return self.sources[layer, port]
        except KeyError:
            raise MalformedError(f"the layer {quoted(layer)} has nothing at its input {quoted(port)}") from None

    def constant(self, layer: str, port: str) -> _Layer:
        """Return the constant that is connected to an input, directly or by a conversion to float32."""
        at = self.source(layer, port)
        if self.layers[at].kind == "Convert":
            at = self.source(at, "0")
        if self.layers[at].kind != "Const":
            raise MalformedError(f"{quoted(self.layers[layer].name)} takes {quoted(self.layers[at].name)}, which is not a constant")
        return self.layers[at]


@dataclass(frozen=True, slots=True)
class _Convolution:
    name: str
    number: float  # of its norm; inf: it has none
    weight: _Layer
    bias: _Layer


def _content(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as handle:
            content = handle.read(limit + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise ModelError(f"{path}: more than {limit} bytes; no Lite-HRNet has so many")
    return content


def _parse(content: bytes) -> _Graph:
    graph, path = _Graph(), list[str]()
    latest = ""  # id of the layer that was started last

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal latest
        path.append(tag)
        if len(path) > _MAX_DEPTH:
            raise MalformedError(f"more than {_MAX_DEPTH} elements are within each other")
        match path:
            case ["net", "layers", "layer"]:
                latest = _attribute(attributes, "id", tag)
                if latest in graph.layers:
                    raise MalformedError(f"two layers have the id {quoted(latest)}")
                graph.layers[latest] = _Layer(_attribute(attributes, "name", tag), _attribute(attributes, "type", tag))
            case ["net", "layers", "layer", "data"]:
                graph.layers[latest].data.update(attributes)
            case ["net", "edges", "edge"]:
                source = _attribute(attributes, "from-layer", tag)
                to = _attribute(attributes, "to-layer", tag), _attribute(attributes, "to-port", tag)
                if to in graph.sources:
                    raise MalformedError(f"the layer {quoted(to[0])} has two sources at its input {quoted(to[1])}")
                graph.sources[to] = source
                graph.readers.setdefault(source, []).append(to)

    def end(_: str) -> None:
        path.pop()

    def refuse(*_: object) -> None:
        raise MalformedError("has a document type, which an OpenVINO IR has not")  # entities could expand without limit

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise MalformedError(f"not valid XML: {error}") from None
    except (ValueError, LookupError) as error:  # an encoding that Python does not support
        raise MalformedError(f"not valid XML: {' '.join(str(error).split())}") from None
    if not graph.layers:
        raise MalformedError("not an OpenVINO IR: it has no layers")
    named = {at for (to, _), source in graph.sources.items() for at in (to, source)}
    if unknown := named - graph.layers.keys():
        raise MalformedError(f"an edge names the layer {quoted(min(unknown))}, which is not there")
    return graph


def _attribute(attributes: Mapping[str, str], key: str, tag: str) -> str:
    if key not in attributes:
        raise MalformedError(f"a {tag} has no {key}")
    return attributes[key]


def _convolutions(graph: _Graph) -> list[_Convolution]:
    """Return all convolutions with their biases, in the order of a checkpoint."""
    found = []
    for at, layer in graph.layers.items():
        if layer.kind in _CONVOLUTIONS:
            readers = graph.readers.get(at, [])
            if len(readers) != 1 or graph.layers[readers[0][0]].kind != "Add":
                raise MalformedError(f"the convolution {quoted(layer.name)} is not followed by the addition of its bias")
            [(add, port)] = readers
            match = _NORM.match(graph.layers[add].name)
            bias = graph.constant(add, "0" if port == "1" else "1")
            found.append(_Convolution(layer.name, int(match[1]) if match else inf, graph.constant(at, "1"), bias))
    found.sort(key=lambda convolution: convolution.number)
    for first, second in pairwise(found):
        if first.number == second.number:
            raise MalformedError(f"{quoted(first.name)} and {quoted(second.name)} have the same norm, or none: their order is not known")
    return found


def _state(variant: Variant, found: list[_Convolution], data: bytes) -> dict[str, FloatArray]:
    expected = [layer for layer in layers(variant) if isinstance(layer, Conv | Norm)]
    convolutions = sum(isinstance(layer, Conv) for layer in expected)
    if len(found) != convolutions:
        raise MalformedError(f"has {len(found)} convolutions; {variant.name} has {convolutions}")
    state: dict[str, FloatArray] = {}
    remaining = iter(found)
    bias = np.zeros(0, np.float32)
    for layer in expected:
        if isinstance(layer, Norm):
            state |= bias_only(layer.key, bias)
            continue
        convolution = next(remaining)
        weight = _values(convolution.weight, data)
        bias = _values(convolution.bias, data).reshape(-1)
        if weight.ndim == 5:  # groups, outputs of a group, inputs of a group, height, width
            weight = weight.reshape(-1, *weight.shape[2:])
        state[f"{layer.key}.weight"] = weight
        if layer.bias:
            state[f"{layer.key}.bias"] = bias
    return state


def _values(constant: _Layer, data: bytes) -> FloatArray:
    name, kind = quoted(constant.name), constant.data.get("element_type", "")
    if kind not in _TYPES:
        raise MalformedError(f"the constant {name} is {quoted(kind)}; convolutions have {' or '.join(_TYPES)}")
    (offset,), (size,), shape = (tuple(_numbers(constant, key)) for key in ("offset", "size", "shape"))
    if not size or prod(shape) * _TYPES[kind].itemsize != size:
        raise MalformedError(f"the constant {name} of shape {shape} has {size} bytes, which does not fit")
    if offset + size > len(data):
        raise MalformedError(f"the constant {name} ends at byte {offset + size}, the file of the weights at {len(data)}")
    return np.frombuffer(data, _TYPES[kind], prod(shape), offset).reshape(shape).astype(np.float32)


def _numbers(constant: _Layer, key: str) -> Iterator[int]:
    text = constant.data.get(key, "")
    if not _SIZES.fullmatch(text) or (key != "shape" and "," in text):
        raise MalformedError(f"the constant {quoted(constant.name)} has no valid {key}")
    return map(int, text.split(","))
