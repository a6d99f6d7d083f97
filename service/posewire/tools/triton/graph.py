"""The input and the output of an ONNX file, as Triton's configuration names them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from posewire.backends.device import CPU_PROVIDER
from posewire.backends.runtime import onnx_runtime
from posewire.errors import ModelError

_TYPES: Final = {"tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16", "tensor(uint8)": "TYPE_UINT8"}


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
    output: GraphTensor  # the only one of floats; others, such as class numbers, are not read

    @property
    def takes_batches(self) -> bool:
        """Return whether a batch may have any size."""
        return self.input.shape[0] == self.output.shape[0] == -1


def read_graph(model: bytes, name: str) -> Graph:
    """Return the tensors of an ONNX file which `posewire.backends.onnxruntime` has opened before.

    Raises:
        ModelError: a tensor has a type that Triton does not have.
    """
    options = onnx_runtime().SessionOptions()
    options.log_severity_level = 3
    session = onnx_runtime().InferenceSession(model, options, providers=[CPU_PROVIDER])
    [images], [rows] = session.get_inputs(), [output for output in session.get_outputs() if "float" in output.type]
    return Graph(_tensor(images, name), _tensor(rows, name))


def _tensor(found: Any, model: str) -> GraphTensor:
    if found.type not in _TYPES:
        raise ModelError(f"{model}: {found.name} is a {found.type}, which is not a type of images or outputs for Triton")
    return GraphTensor(found.name, _TYPES[found.type], _shape(found.shape))


def _shape(sizes: Sequence[int | str | None]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in sizes)
