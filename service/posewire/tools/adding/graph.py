"""An ONNX file as data: what it takes, what it says of itself, and whether it normalises images itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from posewire.backends.base import Shape
from posewire.backends.runtime import onnx_runtime
from posewire.errors import ModelError, PosewireError
from posewire.files import UnreadableFile, read_plain
from posewire.types import InputFormat

Arrays = Mapping[str, npt.NDArray[Any]]  # by the names of the outputs, with the batch of 1

_MAX_BYTES: Final = (1 << 31) - 1  # protobuf's limit
_KNOWN_DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_NAMED: Final = 5  # names in a message
_PASSING: Final = ("Cast", "Identity", "Transpose")
_ARITHMETIC: Final = ("Add", "Sub", "Mul", "Div")


@dataclass(frozen=True, slots=True)
class Normalisation:
    """The normalisation in the first nodes of a graph: (channel - mean) / std, of channels 0..255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """An ONNX file with one input of images."""

    content: bytes
    name: str  # of the file, for messages
    opset: int
    producer: str  # as the file says; may be empty
    metadata: Mapping[str, str]
    input_format: InputFormat
    height: int | None  # pixels; None: the file leaves it open
    width: int | None
    output_shapes: Mapping[str, Shape]  # by name, without the batch
    normalisation: Normalisation | None

    def run(self, pixels: npt.NDArray[Any]) -> Arrays:
        """Return all outputs for one input, (1, ...) of the file's input.

        Raises:
            ModelError: the file does not run.
        """
        session = _session(self.content, self.name)
        try:
            answers = session.run(None, {session.get_inputs()[0].name: pixels})
        except Exception as error:
            raise ModelError(f"{self.name} opens but does not run on {pixels.shape}: {_first_line(error)}") from error
        return dict(zip((output.name for output in session.get_outputs()), answers, strict=True))


def read_graph(path: Path) -> Graph:
    """Read an ONNX file.

    Raises:
        PosewireError: onnx is not installed.
        ModelError: the file cannot be read, is cut short or no ONNX, keeps its weights in other files, has operators that ONNX Runtime
            does not know, or does not take one batch of images.
    """
    content, model = _load(path)
    graph = model.graph
    initializers = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in initializers]
    if len(inputs) != 1:
        names = ", ".join(repr(one.name) for one in inputs[:_NAMED]) + (", …" if len(inputs) > _NAMED else "")
        raise ModelError(f"{path} has {len(inputs)} inputs ({names}); one of images is needed")
    session = _session(content, str(path))
    taken = session.get_inputs()[0]
    form, height, width = _image_input(path, taken.type, tuple(taken.shape))
    opsets = {one.domain: one.version for one in model.opset_import}
    return Graph(
        content=content,
        name=str(path),
        opset=opsets.get("", opsets.get("ai.onnx", 0)),
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        metadata={one.key: one.value for one in model.metadata_props},
        input_format=form,
        height=height,
        width=width,
        output_shapes={output.name: tuple(output.shape[1:]) for output in session.get_outputs()},
        normalisation=_normalisation(graph, inputs[0].name),
    )


def _load(path: Path) -> tuple[bytes, Any]:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise PosewireError("to look into an ONNX file needs onnx: pip install 'posewire[compile]'") from None
    try:
        content = read_plain(path, _MAX_BYTES)
    except UnreadableFile as error:
        raise ModelError(f"{path} {error.reason}") from None
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise ModelError(f"{path} is cut short, or no ONNX file; sha256sum tells whether it is the file that was published") from None
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{path} is no ONNX file: it has no graph")
    outside = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if outside:
        join = "python -c \"import onnx; onnx.save(onnx.load('IN.onnx'), 'OUT.onnx')\""
        raise ModelError(f"{path} keeps its weights in another file, {min(outside)!r}; make one file of both with {join}, beside that file")
    foreign = sorted({node.domain for node in model.graph.node} - set(_KNOWN_DOMAINS))
    if foreign:
        operators = sorted({node.op_type for node in model.graph.node if node.domain == foreign[0]})
        raise ModelError(f"{path} has operators of {foreign[0]!r} ({operators[0]}); export it again for ONNX Runtime, without them")
    return content, model


def _session(content: bytes, name: str) -> Any:
    runtime = onnx_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(content, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{name} cannot be opened by ONNX Runtime: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _image_input(path: Path, kind: str, shape: tuple[int | str | None, ...]) -> tuple[InputFormat, int | None, int | None]:
    """Return the format, the height and the width of an input; None for a size that the file leaves open.

    Raises:
        ModelError: it takes something else than images, or batches of a fixed size above 1.
    """
    form: InputFormat
    match kind, shape:
        case "tensor(float)", (_, 3, height, width):
            form = "float32-nchw"
        case "tensor(uint8)", (_, height, width, 3):
            form = "uint8-nhwc"
        case "tensor(uint8)", (_, 3, height, width):
            form = "uint8-nchw"
        case _:
            raise ModelError(
                f"{path} takes {shape} of {kind}; images are needed: (batch, 3, height, width) of float32 or uint8, or "
                f"(batch, height, width, 3) of uint8. Export it so"
            )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ModelError(f"{path} takes batches of {shape[0]} only; export it with a batch of 1 or of any size")
    return form, height if isinstance(height, int) else None, width if isinstance(width, int) else None


def _normalisation(graph: Any, source: str) -> Normalisation | None:
    """Follow the first nodes behind the input, as long as they scale and shift channels."""
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    constants |= {
        node.output[0]: numpy_helper.to_array(attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    scale, shift, found = np.ones(3), np.zeros(3), False
    while True:
        users = [node for node in graph.node if source in node.input]
        if len(users) != 1 or users[0].op_type not in (*_PASSING, *_ARITHMETIC):
            break
        node = users[0]
        if node.op_type in _ARITHMETIC:
            value = constants.get(node.input[1 - list(node.input).index(source)])
            if value is None or value.size not in (1, 3) or (node.op_type in ("Sub", "Div") and node.input[0] != source):
                break
            factor = np.broadcast_to(value.astype(np.float64).ravel(), 3)
            match node.op_type:
                case "Add":
                    shift = shift + factor
                case "Sub":
                    shift = shift - factor
                case "Mul":
                    scale, shift = scale * factor, shift * factor
                case _:
                    scale, shift = scale / factor, shift / factor
            found = True
        source = node.output[0]
    if not found or not scale.all():
        return None
    mean, std = (-shift / scale).round(3).tolist(), (1 / scale).round(3).tolist()
    return Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
