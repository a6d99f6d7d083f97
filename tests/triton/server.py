"""The other side of Triton's Python backend: a server of one repository in this process, with ONNX Runtime for its networks.

It checks requests and responses against the configurations, as Triton does. `tests/triton/test_server.py` asks a real one.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import onnxruntime
from google.protobuf import json_format, text_format
from tritonclient.utils import triton_to_np_dtype

from posewire.tools.triton.config import config_messages

Array = npt.NDArray[Any]

CONFIG = config_messages()


def read_config(path: Path) -> Any:
    """A `config.pbtxt`, parsed by Triton's own messages: an unknown field is an error."""
    return text_format.Parse(path.read_bytes(), CONFIG.ModelConfig())


@dataclass(frozen=True, eq=False)
class Tensor:
    """`pb_utils.Tensor`."""

    of: str
    data: Array

    def name(self) -> str:
        return self.of

    def as_numpy(self) -> Array:
        return self.data


class TritonError:
    """`pb_utils.TritonError`."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


@dataclass(frozen=True, eq=False)
class InferenceResponse:
    """`pb_utils.InferenceResponse`."""

    output_tensors_: Sequence[Tensor]
    error_: TritonError | None

    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        object.__setattr__(self, "output_tensors_", output_tensors)
        object.__setattr__(self, "error_", error)

    def output_tensors(self) -> Sequence[Tensor]:
        return self.output_tensors_

    def has_error(self) -> bool:
        return self.error_ is not None

    def error(self) -> TritonError | None:
        return self.error_


@dataclass(frozen=True, eq=False)
class Request:
    """A request of a client, as `execute` gets it."""

    tensors: Mapping[str, Array]
    names: Sequence[str]
    params: Mapping[str, object] = field(default_factory=dict)
    timeout_us: int = 0
    cancelled: bool = False

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, data) for name, data in self.tensors.items()]

    def requested_output_names(self) -> Sequence[str]:
        return self.names

    def parameters(self) -> str:
        return json.dumps(self.params) if self.params else ""

    def timeout(self) -> int:
        return self.timeout_us

    def is_cancelled(self) -> bool:
        return self.cancelled


def kind_of(tensor: Any) -> Any:
    """The NumPy type of a tensor of a configuration."""
    name = CONFIG.DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return np.dtype(triton_to_np_dtype({"STRING": "BYTES"}.get(name, name)))


def fault_of(described: Any, data: Array, batch: bool) -> str | None:
    """What is wrong with a tensor, by its configuration."""
    shape = data.shape[1:] if batch else data.shape
    if data.dtype != kind_of(described):
        return f"{described.name}: {data.dtype} is not {kind_of(described)}"
    if len(shape) != len(described.dims) or any(want not in (-1, size) for want, size in zip(described.dims, shape, strict=True)):
        return f"{described.name}: {data.shape} is not {list(described.dims)}"
    return None


class Server:
    """Loads a repository.

    Args:
        repository: as `posewire models export --triton` writes it.
    """

    def __init__(self, repository: Path) -> None:
        self.configs = {folder.name: read_config(folder / "config.pbtxt") for folder in sorted(repository.iterdir())}
        assert all(config.name == name for name, config in self.configs.items())
        self.sessions = {
            name: onnxruntime.InferenceSession(repository / name / "1" / "model.onnx", providers=["CPUExecutionProvider"])
            for name, config in self.configs.items()
            if config.platform == "onnxruntime_onnx"
        }
        self.batches: dict[str, list[int]] = {name: [] for name in self.sessions}  # sizes of all runs
        self.failing: dict[str, TritonError] = {}  # models that fail, and how
        self.pb_utils = self._module()
        script = repository / "posewire" / "1" / "model.py"
        spec = importlib.util.spec_from_file_location("model", script)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with patch.dict("sys.modules", {"triton_python_backend_utils": self.pb_utils}):
            spec.loader.exec_module(module)
        config = json_format.MessageToJson(self.configs["posewire"], preserving_proto_field_name=True)
        self.model = module.TritonPythonModel()
        self.model.initialize({"model_config": config, "model_repository": str(repository / "posewire"), "model_version": "1"})

    def infer(
        self, tensors: Mapping[str, Array], outputs: Sequence[str] = (), *, timeout_us: int = 0, cancelled: bool = False, **params: object
    ) -> InferenceResponse:
        """The response to one request."""
        config = self.configs["posewire"]
        names = list(outputs) or [output.name for output in config.output]
        [response] = self.execute([Request(tensors, names, params, timeout_us, cancelled)])
        return response

    def execute(self, requests: Sequence[Request]) -> list[InferenceResponse]:
        """The responses to some requests; they are checked against the configuration."""
        config = self.configs["posewire"]
        known = {tensor.name: tensor for tensor in config.input}
        for request in requests:
            assert {name for name, tensor in known.items() if not tensor.optional} <= request.tensors.keys()
            assert [fault_of(known[name], data, False) for name, data in request.tensors.items()] == [None] * len(request.tensors)
        responses: list[InferenceResponse] = self.model.execute(requests)
        described = {tensor.name: tensor for tensor in config.output}
        for request, response in zip(requests, responses, strict=True):
            if not response.has_error():
                assert [tensor.name() for tensor in response.output_tensors()] == list(request.names)
                faults = [fault_of(described[tensor.name()], tensor.as_numpy(), False) for tensor in response.output_tensors()]
                assert faults == [None] * len(faults)
        return responses

    def run(self, name: str, inputs: Sequence[Tensor], outputs: Sequence[str]) -> InferenceResponse:
        """One run of a network."""
        if name in self.failing:
            return InferenceResponse(error=self.failing[name])
        if name not in self.sessions:
            return InferenceResponse(error=TritonError(f"unknown model {name}", TritonError.NOT_FOUND))
        config = self.configs[name]
        batched = config.max_batch_size > 0
        [described], [given] = config.input, inputs
        fault = fault_of(described, given.data, batched) if given.of == described.name else f"{given.of} is not an input"
        if batched and len(given.data) > config.max_batch_size:
            fault = f"a batch of {len(given.data)} is above {config.max_batch_size}"
        if fault or set(outputs) - {output.name for output in config.output}:
            return InferenceResponse(error=TritonError(fault or f"{outputs} are not outputs", TritonError.INVALID_ARG))
        self.batches[name].append(len(given.data))
        found = self.sessions[name].run(list(outputs), {given.of: given.data})
        return InferenceResponse([Tensor(*pair) for pair in zip(outputs, found, strict=True)])

    def _module(self) -> ModuleType:
        server = self

        class InferenceRequest:
            """`pb_utils.InferenceRequest`, made by the model to ask another."""

            def __init__(
                self, *, model_name: str, requested_output_names: Sequence[str], inputs: Sequence[Tensor], preferred_memory: object
            ) -> None:
                self._asked = (model_name, inputs, requested_output_names)
                assert preferred_memory == ("CPU", 0)  # else an answer of a GPU could not be read

            def exec(self) -> InferenceResponse:
                return server.run(*self._asked)

        def by_name(tensors: Sequence[Tensor], name: str) -> Tensor | None:
            return next((tensor for tensor in tensors if tensor.of == name), None)

        module = ModuleType("triton_python_backend_utils")
        vars(module).update(
            Tensor=Tensor,
            TritonError=TritonError,
            InferenceRequest=InferenceRequest,
            InferenceResponse=InferenceResponse,
            PreferredMemory=lambda kind, device: (kind, device),
            TRITONSERVER_MEMORY_CPU="CPU",
            get_input_tensor_by_name=lambda request, name: by_name(request.inputs(), name),
            get_output_tensor_by_name=lambda response, name: by_name(response.output_tensors(), name),
        )
        return module


def images(*files: bytes) -> Array:
    """The tensor of images."""
    found = np.empty(len(files), np.object_)
    found[:] = files
    return found


def outputs_of(response: InferenceResponse) -> dict[str, Array]:
    """The outputs of a good response."""
    error = response.error()
    assert error is None, error.message()
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def error_of(response: InferenceResponse) -> tuple[str, int]:
    """The message and the code of a bad response."""
    error = response.error()
    assert error is not None
    return error.message(), error.code()
