"""The configurations `config.pbtxt` of a Triton model repository.

Source of the fields: `model_config.proto` of https://github.com/triton-inference-server/common. They are written with the messages of
Triton's own client, so a wrong field or type cannot be written.
"""

import importlib.util
from pathlib import Path
from typing import Any, Final

from posewire.config import PREFIX, Settings
from posewire.errors import PosewireError
from posewire.schemas.inference_protocol import INPUTS, MODEL, TensorSpec, outputs
from posewire.tools.triton.graph import Graph

# A request waits at most so long for others to be joined with: far less than the networks need.
_QUEUE_DELAY_US: Final = 1000
_PREFERRED_SIZES: Final = (4, 8, 16, 32)
# Each is a process with one request at a time. Several keep the networks busy while one decodes; more cost 200 MB each.
_INSTANCES: Final = 4

_TYPES: Final = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT32": "TYPE_INT32"}

# The settings that decide what an answer has.
SETTINGS: Final = ("min_detection_score", "max_people", "max_pictures", "max_bytes", "max_pixels", "decoding", "flip_test")


def network_config(name: str, graph: Graph, item: tuple[int, ...], max_batch: int) -> bytes:
    """Return the configuration of an ONNX network.

    Args:
        name: of the model in Triton.
        graph: of the file.
        item: shape of one item of the input; the file may leave sizes open.
        max_batch: limit of items of one run; 0: the file, or its head, takes single items only.

    Raises:
        PosewireError: Triton's client is not installed.
    """
    # Without batches Triton counts the first dimension as any other. That of an output has to be written as in the graph.
    input_dims = item if max_batch else (1, *item)
    first = 1 if max_batch else 0
    content: dict[str, Any] = {
        "name": name,
        "platform": "onnxruntime_onnx",
        "max_batch_size": max_batch,
        "input": [{"name": graph.input.name, "data_type": graph.input.type, "dims": input_dims}],
        "output": [{"name": output.name, "data_type": output.type, "dims": output.shape[first:]} for output in graph.outputs],
        "instance_group": [{"count": 1, "kind": "KIND_AUTO"}],
        "model_warmup": [
            {
                "name": f"{size} blank",
                "batch_size": size,
                "inputs": {graph.input.name: {"data_type": graph.input.type, "dims": input_dims, "zero_data": True}},
            }
            for size in dict.fromkeys((1, max(1, max_batch)))
        ],
    }
    if max_batch > 1:
        sizes = [size for size in _PREFERRED_SIZES if size < max_batch]
        content["dynamic_batching"] = {
            "preferred_batch_size": [*sizes, max_batch],
            "max_queue_delay_microseconds": _QUEUE_DELAY_US,
        }
    return _text(content, "An instance group without a kind runs on a GPU if there is one, else on the CPU.")


def pipeline_config(keypoints: int, settings: Settings) -> bytes:
    """Return the configuration of the model that clients call.

    Args:
        keypoints: of the pose model.
        settings: those in `SETTINGS` become parameters.

    Raises:
        PosewireError: Triton's client is not installed.
    """
    content = {
        "name": MODEL,
        "backend": "python",
        "max_batch_size": 0,
        "input": [_tensor(spec) | {"optional": spec.name != "images"} for spec in INPUTS],
        "output": [_tensor(spec) for spec in outputs(keypoints)],
        "instance_group": [{"count": _INSTANCES, "kind": "KIND_CPU"}],
        "parameters": {f"{PREFIX}{name.upper()}": {"string_value": str(getattr(settings, name))} for name in SETTINGS},
    }
    return _text(content, "count is the number of requests at a time. The parameters are settings of Posewire.")


def config_messages() -> Any:
    """Return the module of Triton's client that has the messages of configurations, such as `ModelConfig`.

    It is loaded without its package. The package registers the messages of the protocol too, as the service's gRPC does, and a process
    can register a message only once.

    Raises:
        PosewireError: Triton's client is not installed.
    """
    client = importlib.util.find_spec("tritonclient")
    for folder in (client and client.submodule_search_locations) or ():
        file = Path(folder) / "grpc/model_config_pb2.py"
        found = importlib.util.spec_from_file_location("model_config_pb2", file)
        if file.is_file() and found is not None and found.loader is not None:
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
            return module
    raise PosewireError("a model repository for Triton needs its client: pip install 'posewire[triton]'")


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": _TYPES[spec.datatype], "dims": spec.shape}


def _text(content: dict[str, Any], comment: str) -> bytes:
    """Return a configuration as protobuf's text.

    Raises:
        PosewireError: Triton's client is not installed.
    """
    messages = config_messages()
    from google.protobuf import json_format, text_format

    message = json_format.ParseDict(content, messages.ModelConfig())
    return f"# Written by `posewire models export --triton`. {comment}\n{text_format.MessageToString(message)}".encode()
