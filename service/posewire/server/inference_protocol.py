"""The Open Inference Protocol, version 2, over HTTP: `/v2`. Servers such as Triton and KServe speak it too."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from pydantic_core import from_json, to_json
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posewire import __version__
from posewire.engine.engine import Engine
from posewire.errors import BadBody, BadParameter
from posewire.schemas.inference_protocol import EXTENSIONS, INPUTS, JSON_LENGTH, MODEL, VERSION, InferRequest, InputTensor, TensorSpec
from posewire.schemas.pose import describe
from posewire.schemas.tensors import OutputTensor
from posewire.server.bodies import arriving, check_values
from posewire.server.estimation import admitted, loaded_engine, timeout_s
from posewire.server.limits import HeldBytes
from posewire.server.middleware import cancel_on_disconnect
from posewire.server.problems import PROBLEM_TYPE
from posewire.server.services import services_of
from posewire.server.tensors import InferCall, Tensor, check_model, output_specs, read_call, run_call

PREFIX = "/v2"

# A body is in memory twice: as its bytes, and as the images.
_COPIES = 2

_MODEL_PATHS = ("/models/{name}", "/models/{name}/versions/{version}")

router = APIRouter(prefix=PREFIX, include_in_schema=False)  # the protocol has an OpenAPI document of its own


class ProtocolErrors:
    """ASGI middleware that answers the protocol's requests with the protocol's errors: `{"error": …}` instead of a problem.

    Args:
        app: the next application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path: str = scope.get("path", "")
        if scope["type"] != "http" or not (path == PREFIX or path.startswith(f"{PREFIX}/")):
            await self._app(scope, receive, send)
            return
        held: Message | None = None

        async def send_error(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and MutableHeaders(raw=message["headers"]).get("content-type") == PROBLEM_TYPE:
                held = message  # the length of the body changes
            elif held is not None and message["type"] == "http.response.body":
                body = to_json({"error": _error_of(from_json(message["body"]))})
                headers = MutableHeaders(raw=held["headers"])
                headers["content-type"] = "application/json"
                headers["content-length"] = str(len(body))
                await send({**held, "headers": headers.raw})
                await send({"type": "http.response.body", "body": body})
            else:
                await send(message)

        await self._app(scope, receive, send_error)


def _error_of(problem: Mapping[str, Any]) -> str:
    image = problem.get("image")
    detail: str = problem["detail"]
    return detail if image is None else f"image {image}: {detail}"


@router.get("")
async def server_metadata() -> Response:
    """Return the server's name, version and extensions."""
    return JSONResponse({"name": MODEL, "version": __version__, "extensions": EXTENSIONS})


@router.get("/health/live")
async def live(request: Request) -> Response:
    """Return 200 if the process is sound, else 503: then only a restart helps."""
    engine = services_of(request).engine
    alive = engine is None or engine.alive
    return JSONResponse({"live": alive}, 200 if alive else 503)


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """Return 200 if a request would be answered, else 503."""
    is_ready = services_of(request).ready
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


@router.get(f"{_MODEL_PATHS[0]}/ready")
@router.get(f"{_MODEL_PATHS[1]}/ready")
async def model_ready(request: Request) -> Response:
    """Return 200 if a request to the model would be answered, else 503; 404 for another model."""
    _check_path(request)
    is_ready = services_of(request).ready
    return JSONResponse({"name": MODEL, "ready": is_ready}, 200 if is_ready else 503)


@router.get(_MODEL_PATHS[0])
@router.get(_MODEL_PATHS[1])
async def model_metadata(request: Request) -> Response:
    """Return names, datatypes and shapes of the inputs and outputs."""
    _check_path(request)
    specs = output_specs(loaded_engine(services_of(request)))
    inputs, outputs = ([_metadata(spec) for spec in group] for group in (INPUTS, specs))
    return JSONResponse({"name": MODEL, "versions": [VERSION], "platform": MODEL, "inputs": inputs, "outputs": outputs})


@router.post(f"{_MODEL_PATHS[0]}/infer")
@router.post(f"{_MODEL_PATHS[1]}/infer")
async def infer(request: Request) -> Response:
    """Find everyone in the images of the tensor `images`."""
    services = services_of(request)
    services.admission.shed_load(request)
    _check_path(request)
    engine = loaded_engine(services)
    started = asyncio.get_running_loop().time()
    latest = started + timeout_s(request.headers.get("x-request-timeout-ms"), services.settings.request_timeout_ms)

    async def read(held: HeldBytes) -> InferCall:
        return await _read(request, engine, held)

    async with admitted(services, request, latest, read) as call:
        async with cancel_on_disconnect(request.receive):
            outputs = await run_call(engine, call, call.deadline(started, latest))
        return _answer(engine, call, outputs)


def _check_path(request: Request) -> None:
    """Check the model in the path.

    Raises:
        UnknownModel: it is another than ours.
    """
    check_model(request.path_params["name"], request.path_params.get("version", ""))


def _metadata(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


async def _read(request: Request, engine: Engine, held: HeldBytes) -> InferCall:
    """Read the body: the JSON, then the binary tensors in the order of the inputs."""
    body = bytearray()
    async for piece in arriving(request, engine.settings.max_request_bytes, held, copies=_COPIES):
        body += piece
    call = await engine.offload(_parse, engine, body, request.headers.get(JSON_LENGTH))
    held.reduce(sum(len(image.data) for image in call.images))
    return call


def _parse(engine: Engine, body: bytearray, json_length: str | None) -> InferCall:
    """Return the request of a body, and empty the body.

    Args:
        engine: has the limits.
        body: of the request.
        json_length: value of the header `Inference-Header-Content-Length`; None: all is JSON.

    Raises:
        BadBody, BadParameter, TooLarge: as `read_call`.
    """
    length = len(body) if json_length is None else _length(json_length, len(body))
    json = body if length == len(body) else body[:length]
    check_values(json)
    try:
        found = InferRequest.model_validate_json(json)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise BadBody(f"the request is not JSON: {describe(error)}") from None
        raise BadParameter(describe(error)) from None
    if json is body:
        body.clear()
    with memoryview(body) as view, view[length:] as binary:
        call = read_call(engine, found.id, found.parameters, _tensors(found.inputs, binary), found.outputs)
    body.clear()
    return call


def _length(given: str, limit: int) -> int:
    if not re.fullmatch(r"\d{1,10}", given, re.ASCII) or int(given) > limit:
        raise BadBody(f"{JSON_LENGTH}: {given[:32]!a} is not the number of bytes of the JSON; the body has {limit}")
    return int(given)


def _tensors(inputs: list[InputTensor], binary: memoryview) -> list[Tensor]:
    """Return the inputs, each with its part of the binary data.

    Raises:
        BadBody: the sizes do not fit the body.
        BadParameter: an input has no data, or has them twice.
    """
    tensors = []
    at = 0
    for found in inputs:
        size = found.parameters.binary_data_size
        if (size is None) == (found.data is None):
            raise BadParameter(f"inputs: {found.name[:64]!a} needs either data or the parameter binary_data_size")
        data: memoryview | list[Any] = found.data if found.data is not None else binary[at : at + (size or 0)]
        at += size or 0
        tensors.append(Tensor(found.name, found.datatype, tuple(found.shape), data))
    if at != len(binary):
        raise BadBody(f"the inputs have a binary_data_size of {at} bytes in all, and {len(binary)} bytes follow the JSON")
    return tensors


def _answer(engine: Engine, call: InferCall, outputs: list[OutputTensor]) -> Response:
    """Return the response: JSON, then the binary tensors in the order of the outputs."""
    binary: list[bytes] = []
    described = []
    for output, (_, requested) in zip(outputs, call.outputs, strict=True):
        fields: dict[str, object] = {"name": output.spec.name, "datatype": output.spec.datatype, "shape": output.shape}
        wanted = requested.parameters.binary_data
        if call.params.binary_data_output if wanted is None else wanted:
            binary.append(output.binary())
            fields["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            fields["data"] = output.values()
        described.append(fields)
    answer: dict[str, object] = {"model_name": MODEL, "model_version": VERSION, "outputs": described}
    if call.id:
        answer["id"] = call.id
    answer["parameters"] = {"detector": engine.detector.spec.name, "pose": engine.pose.spec.name}
    json = to_json(answer)
    if not binary:
        return Response(json, media_type="application/json")
    return Response(b"".join([json, *binary]), headers={JSON_LENGTH: str(len(json))}, media_type="application/octet-stream")
