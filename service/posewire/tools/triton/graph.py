"""The input and the outputs of an ONNX file, as Triton's configuration names them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from posewire.backends.device import CPU_PROVIDER
from posewire.backends.runtime import onnx_runtime
from posewire.errors import ModelError

_TYPES: Final = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
}


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """A tensor of a graph."""

    name: str
    type: str  # as Triton spells it
    shape: tuple[int, ...]  # -1: the file leaves the size open


@dataclass(frozen=True, slots=True)
class Graph:
    """The tensors of a network that are used."""

    input: GraphTensor
    outputs: tuple[GraphTensor, ...]  # that are read, in the order in which they are joined

    @property
    def takes_batches(self) -> bool:
        """Return whether a batch may have any size."""
        return all(tensor.shape[0] == -1 for tensor in (self.input, *self.outputs))


def read_graph(model: bytes, name: str, outputs: Sequence[str] = ()) -> Graph:
    """Return the tensors of an ONNX file which `posewire.backends.onnxruntime` has opened before.

    Args:
        model: the bytes of the file.
        name: of the model, for errors.
        outputs: names of the outputs that are read; empty: the one output of floats.

    Raises:
        ModelError: a tensor has a type that is not exported.
    """
    options = onnx_runtime().SessionOptions()
    options.log_severity_level = 3
    session = onnx_runtime().InferenceSession(model, options, providers=[CPU_PROVIDER])
    [images] = session.get_inputs()
    found = {output.name: output for output in session.get_outputs()}
    read = [found[output] for output in outputs] or [output for output in found.values() if "float" in output.type]
    return Graph(_tensor(images, name), tuple(_tensor(output, name) for output in read))


def _tensor(found: Any, model: str) -> GraphTensor:
    if found.type not in _TYPES:
        raise ModelError(f"{model}: {found.name} is a {found.type}; what is exported to Triton is one of {', '.join(_TYPES)}")
    return GraphTensor(found.name, _TYPES[found.type], _shape(found.shape))


def _shape(sizes: Sequence[int | str | None]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in sizes)
