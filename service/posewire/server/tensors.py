"""The tensors of requests of the Open Inference Protocol, read within limits, and their answers. HTTP and gRPC share them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posewire.config import Settings
from posewire.engine.engine import Engine
from posewire.errors import BadBody, BadParameter, UnknownModel
from posewire.schemas.base64_image import decode_base64
from posewire.schemas.inference_protocol import INPUTS, MODEL, VERSION, InferParams, RequestedOutput, TensorSpec, outputs
from posewire.schemas.tensors import DATATYPES, LENGTH, OutputTensor, PeopleTensors, share_boxes
from posewire.server.bodies import EncodedImage, check_count, check_sizes
from posewire.server.estimation import estimate_all
from posewire.telemetry import tracing
from posewire.types import FloatArray, PoseOptions

_MAX_DIMENSIONS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An input tensor of a request, not yet checked."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: memoryview | list[Any]  # the binary form, or the elements: flat, or nested as the shape says


@dataclass(frozen=True, slots=True, eq=False)
class InferCall:
    """An inference request; its length is the number of images."""

    id: str
    params: InferParams
    images: list[EncodedImage]
    outputs: tuple[tuple[TensorSpec, RequestedOutput], ...]  # in the order of the answer

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def deadline(self, started: float, latest: float) -> float:
        """Return the deadline, in the event loop's time.

        Args:
            started: when the request came.
            latest: the deadline without the parameter `timeout`.
        """
        return min(latest, started + self.params.timeout / 1e6) if self.params.timeout else latest


def check_model(name: str, version: str) -> None:
    """Check the model that a request names; an empty version means the one that there is.

    Raises:
        UnknownModel: it is another.
    """
    if name != MODEL:
        raise UnknownModel(f"the model {name[:64]!a} is not served here; the model of this service is {MODEL!r}")
    if version not in ("", VERSION):
        raise UnknownModel(f"version {version[:64]!a} of {MODEL!r} is not served here; name no version, or {VERSION!r}")


def output_specs(engine: Engine) -> tuple[TensorSpec, ...]:
    """Return the output tensors of the engine's pose model."""
    return outputs(len(engine.pose.spec.keypoints.names))


def read_call(
    engine: Engine, request_id: str, params: InferParams, tensors: Sequence[Tensor], requested: Sequence[RequestedOutput]
) -> InferCall:
    """Check a request and return it; takes milliseconds for large images.

    Args:
        engine: its settings have the limits.
        request_id: of the caller, or empty.
        params: of the request.
        tensors: the inputs. Lists of images are emptied: their memory is needed.
        requested: the outputs that the caller asks for; empty: all.

    Raises:
        BadParameter: a name, a datatype, a shape or a value is not valid.
        BadBody: the binary form does not fit the shape.
        TooLarge: there are too many images, or one has too many bytes.
    """
    settings = engine.settings
    given = {tensor.name: tensor for tensor in tensors}
    known = {spec.name: spec for spec in INPUTS}
    if unknown := sorted(given.keys() - known.keys()):
        raise BadParameter(f"inputs: {unknown[0][:64]!a} is not an input; the inputs are {', '.join(known)}")
    if len(given) < len(tensors):
        raise BadParameter("inputs: two tensors have the same name")
    if "images" not in given:
        raise BadParameter("inputs: the tensor 'images' is missing; it holds the encoded images")
    for tensor in tensors:
        _check_tensor(tensor, known[tensor.name])
    files = _read_files(given["images"], settings)
    boxes = _read_boxes(given.get("boxes"), given.get("boxes_count"), len(files), settings.max_people)
    images = [EncodedImage(data, own) for data, own in zip(files, boxes, strict=True)]
    check_sizes(images, settings)
    return InferCall(request_id, params, images, _requested(requested, output_specs(engine)))


async def run_call(engine: Engine, call: InferCall, deadline: float) -> list[OutputTensor]:
    """Estimate all images of a request and return the outputs that it asks for.

    Raises:
        ServiceError: as `estimate_all`.
    """
    params = call.params

    def options(image: EncodedImage) -> PoseOptions:
        return engine.settings.pose_options(params.min_detection_score, params.max_people, image.boxes_xywh)

    results = await estimate_all(engine, call.images, options, deadline)
    with engine.metrics.time_stage("encode"), tracing.stage("encode"):
        people = PeopleTensors(results, engine.pose.spec.keypoints.names, params.min_keypoint_score)
        return [people.tensor(spec) for spec, _ in call.outputs]


def _check_tensor(tensor: Tensor, spec: TensorSpec) -> None:
    """Check datatype and shape. Any tensor may have its elements in rows of one, as clients with a batch dimension send them."""
    if tensor.datatype != spec.datatype:
        raise BadParameter(f"inputs: {spec.name} has the datatype {tensor.datatype[:16]!a}; it needs {spec.datatype}")
    shape = tensor.shape
    rows = len(spec.shape) == 1 and len(shape) == 2 and shape[1] == 1
    fits = len(shape) == len(spec.shape) and all(want in (-1, size) for want, size in zip(spec.shape, shape, strict=True))
    if len(shape) > _MAX_DIMENSIONS or any(size < 0 for size in shape) or not (fits or rows):
        wanted = ", ".join("N" if size < 0 else str(size) for size in spec.shape)
        raise BadParameter(f"inputs: {spec.name} has the shape {list(shape[:_MAX_DIMENSIONS])}; it needs [{wanted}]")


def _read_files(tensor: Tensor, settings: Settings) -> list[bytes]:
    count = tensor.shape[0]
    check_count(count, settings)
    if not count:
        raise BadParameter("inputs: images holds no image; send at least one")
    if isinstance(tensor.data, memoryview):
        return list(_split(tensor.data, count))
    texts = list(_flat(tensor.data))
    tensor.data.clear()
    if len(texts) != count:
        raise BadParameter(f"inputs: images has {len(texts)} elements, and its shape has {count}")
    files = []
    for i, text in enumerate(texts):
        texts[i] = None  # one image at a time is in memory twice
        files.append(_decode(text, i))
    return files


def _decode(element: object, index: int) -> bytes:
    if isinstance(element, bytes):
        return element
    try:
        if isinstance(element, str):
            return decode_base64(element)
    except ValueError:
        pass
    raise BadParameter("an image in JSON is a text of base64, or a data: URL of base64; binary tensors hold the file itself", image=index)


def _split(data: memoryview, count: int) -> Iterator[bytes]:
    """Yield the elements of the binary form of a BYTES tensor."""
    at = 0
    for i in range(count):
        start = at + LENGTH.itemsize
        if start > len(data):
            raise BadBody(f"inputs: images ends before the length of element {i}; each element is its length in 4 bytes, then its bytes")
        length = int.from_bytes(data[at:start], "little")
        at = start + length
        if at > len(data):
            raise BadBody(f"inputs: element {i} of images has a length of {length} bytes, and only {len(data) - start} follow")
        yield bytes(data[start:at])
    if at < len(data):
        raise BadBody(f"inputs: {len(data) - at} bytes follow the last element of images; its shape has {count} elements")


def _read_boxes(boxes: Tensor | None, counts: Tensor | None, images: int, max_people: int) -> list[FloatArray | None]:
    """Return the boxes of each image."""
    if boxes is None:
        if counts is not None:
            raise BadParameter("inputs: boxes_count needs the tensor boxes beside it")
        return [None] * images
    if boxes.shape[0] > images * max_people:
        raise BadParameter(f"inputs: {boxes.shape[0]} boxes are more than {max_people} for each image")
    shares = None if counts is None else _elements(counts) if counts.shape[0] == images else []
    return share_boxes(_elements(boxes), shares, images)


def _elements(tensor: Tensor) -> list[Any]:
    """Return the numbers of a tensor, row by row."""
    count = math.prod(tensor.shape)
    if isinstance(tensor.data, memoryview):
        kind = DATATYPES[tensor.datatype]
        if len(tensor.data) != count * kind.itemsize:
            raise BadBody(f"inputs: {tensor.name} has {len(tensor.data)} bytes; its shape needs {count * kind.itemsize}")
        numbers: list[Any] = np.frombuffer(tensor.data, kind).tolist()
        return numbers
    values = list(_flat(tensor.data))
    if len(values) != count:
        raise BadParameter(f"inputs: {tensor.name} has {len(values)} elements, and its shape needs {count}")
    return values


def _flat(data: list[Any], depth: int = _MAX_DIMENSIONS) -> Iterator[Any]:
    """Yield the elements of nested lists, row by row."""
    if not depth:
        raise BadParameter(f"inputs: the data have more than {_MAX_DIMENSIONS} dimensions")
    for item in data:
        if isinstance(item, list):
            yield from _flat(item, depth - 1)
        else:
            yield item


def _requested(requested: Sequence[RequestedOutput], specs: tuple[TensorSpec, ...]) -> tuple[tuple[TensorSpec, RequestedOutput], ...]:
    known = {spec.name: spec for spec in specs}
    names = [output.name for output in requested]
    if unknown := [name for name in names if name not in known]:
        raise BadParameter(f"outputs: {unknown[0][:64]!a} is not an output; the outputs are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise BadParameter("outputs: an output is asked for twice")
    return tuple((known[output.name], output) for output in requested or [RequestedOutput(name=spec.name) for spec in specs])
