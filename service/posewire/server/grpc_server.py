"""The Open Inference Protocol, version 2, over gRPC, on a port of its own.

Every call is read by its handler, message by message: keys and limits are checked before a byte of the message is taken from gRPC.
The limits and the log know requests by their ASGI scope, so a call has one too.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from posewire import __version__
from posewire.config import Settings
from posewire.engine.deadlines import until
from posewire.engine.engine import Engine
from posewire.errors import (
    BadBody,
    BadParameter,
    ClientGone,
    ConfigError,
    DeadlineExceeded,
    Overloaded,
    ServiceError,
    TooLarge,
)
from posewire.schemas.inference_protocol import INPUTS, MODEL, VERSION, InferParams, RequestedOutput, TensorSpec
from posewire.schemas.pose import describe
from posewire.schemas.tensors import OutputTensor
from posewire.server.access_log import ROUTE, record
from posewire.server.auth import bearer_key, identify
from posewire.server.estimation import admitted, loaded_engine
from posewire.server.limits import KEY_HOLDER, HeldBytes
from posewire.server.middleware import request_id_of, trace_id_of
from posewire.server.problems import internal_error, note
from posewire.server.proto import open_inference_pb2 as messages
from posewire.server.services import Services
from posewire.server.tensors import InferCall, Tensor, check_model, output_specs, read_call, run_call
from posewire.telemetry import tracing
from posewire.telemetry.logs import request_id_var, trace_id_var

SERVICE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

# A message is in memory three times: as its bytes, as its fields, and as the images.
_COPIES = 3

# A message without images has a name and a version.
_SHORT_BYTES = 65_536

# A parsed field may need fifty times its bytes. A message has at most so many fields, and so many bytes beside the images.
_MAX_FIELDS = 20_000
_MAX_OTHER_BYTES = 4_194_304

# Numbers of the fields that hold images: raw_input_contents, and inputs.contents.bytes_contents.
_RAW_CONTENTS, _INPUTS, _CONTENTS, _BYTES_CONTENTS = 7, 5, 5, 8

# The fields of `InferTensorContents` for the datatypes that are used here.
_CONTENTS_OF = {"FP32": "fp32_contents", "INT32": "int_contents", "BYTES": "bytes_contents"}

_IDLE_MS = 300_000
_KEEP_ALIVE_MS = 60_000
_LEAST_PING_MS = 10_000

# By HTTP status; every other status from 400 to 499 is a fault of the request.
_CODES: Final[Mapping[int, grpc.StatusCode]] = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One call of a client."""

    services: Services
    connection: HTTPConnection
    started: float  # in the event loop's time, as `latest`
    latest: float  # the deadline
    requests: AsyncIterator[bytes]

    async def message(self) -> bytes:
        """Return the bytes of the call's message.

        Raises:
            BadBody: the client sends none, or one that is too large.
        """
        message = await anext(self.requests, None)
        if message is None:
            limit = self.services.settings.grpc_max_bytes
            raise BadBody(f"the call has no message, or one over the limit of {limit} bytes")
        return message

    async def short_message(self) -> bytes:
        """Return the bytes of a message without images.

        Raises:
            BadBody, TooLarge: it is missing or too large.
            DeadlineExceeded: it does not arrive.
        """
        async with until(self.latest, "before the message had arrived"):
            message = await self.message()
        if len(message) > _SHORT_BYTES:
            raise TooLarge(f"the message is over the limit of {_SHORT_BYTES} bytes")
        return message


@dataclass(frozen=True, slots=True)
class _Method:
    """A method of a service."""

    answer: Callable[[_Call], Awaitable[Message]]
    is_open: bool = False  # it needs no key, and its message is not read


class GrpcServer:
    """Answers the protocol over gRPC until `stop`. Made in the event loop that it runs in.

    Args:
        services: of the application.

    Raises:
        ConfigError: the port is in use.
    """

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._services = services
        self._calls = 0
        self._server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=2 * settings.grpc_max_calls)
        self._server.add_generic_rpc_handlers((_Handlers(self._serve),))
        if services.keys is None:  # reflection cannot ask for a key
            reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), self._server)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            self.port = self._server.add_insecure_port(f"{host}:{settings.grpc_port}")
        except RuntimeError:
            raise ConfigError(f"POSEWIRE_GRPC_PORT={settings.grpc_port}: the port of {host} cannot be opened; choose another") from None
        self._address = f"{host}:{self.port}"

    async def start(self) -> None:
        """Accept calls."""
        await self._server.start()
        log.info("Posewire answers gRPC on %s", self._address)

    async def stop(self, within_s: float) -> None:
        """Refuse new calls, and wait until those accepted are answered; cut them after `within_s` seconds."""
        await self._server.stop(within_s)

    async def _serve(self, path: str, method: _Method, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """Answer one call, and count, time and log it."""
        scope = _scope_of(path, context)
        headers = Headers(scope=scope)
        request_id = request_id_of(headers)
        request_id_var.set(request_id)  # each call has a context of its own
        loop, started = asyncio.get_running_loop(), time.perf_counter()
        limit_s, remaining_s = self._services.settings.request_timeout_ms / 1000, context.time_remaining()
        latest = loop.time() + (limit_s if remaining_s is None else min(limit_s, remaining_s))
        call = _Call(self._services, HTTPConnection(scope), loop.time(), latest, requests)
        context.set_trailing_metadata((("x-request-id", request_id),))
        error: ServiceError | None = None
        with tracing.request_span(scope["method"], headers) as span:
            trace_id_var.set(tracing.sampled_trace_id(span) or trace_id_of(headers))
            try:
                return (await self._answer(method, call)).SerializeToString()
            except ServiceError as found:
                error = found
            except asyncio.CancelledError:
                error = ClientGone() if loop.time() < latest else DeadlineExceeded("the deadline of the call passed")
                raise
            except Exception:
                log.exception("unhandled error")
                error = internal_error()
            finally:
                status = 200 if error is None else error.status
                if error is not None:
                    note(self._services.metrics, scope, error)
                tracing.end_request_span(span, scope["method"], path, status)
                record(self._services, scope, status, time.perf_counter() - started, tracing.sampled_trace_id(span))
        await context.abort(_code_of(error), _text_of(error), _metadata_of(error, request_id))

    async def _answer(self, method: _Method, call: _Call) -> Message:
        if method.is_open:
            return await method.answer(call)
        if self._services.keys is not None:
            headers = call.connection.headers
            key = bearer_key(headers.get("authorization", ""))
            call.connection.scope[KEY_HOLDER] = identify(self._services.keys, headers.get("x-api-key") if key is None else key)
        limit = self._services.settings.grpc_max_calls
        if self._calls >= limit:
            raise Overloaded(f"{limit} calls are open, more are not taken; try again later", limit="grpc-calls", retry_after_s=1)
        self._calls += 1
        try:
            return await method.answer(call)
        finally:
            self._calls -= 1


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a call, by the name of its method.

    Args:
        serve: answers a call.
    """

    def __init__(self, serve: Callable[[str, _Method, AsyncIterator[bytes], Context], Awaitable[bytes]]) -> None:
        self._serve = serve

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler; None: there is no such method."""
        path = handler_call_details.method
        method = _METHODS.get(path)
        if method is None:
            return None

        async def handle(requests: AsyncIterator[bytes], context: Context) -> bytes:
            return await self._serve(path, method, requests, context)

        # The bytes on the wire are those of a call with one message; the handler reads it when it has checked the rest.
        return grpc.stream_unary_rpc_method_handler(handle)


def _options(settings: Settings) -> list[tuple[str, int]]:
    """Return gRPC's settings: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html."""
    return [
        ("grpc.so_reuseport", 0),  # else a second service would share the port in silence
        ("grpc.max_receive_message_length", settings.grpc_max_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", settings.grpc_max_calls),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.keepalive_time_ms", _KEEP_ALIVE_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_MS),
    ]


def _scope_of(path: str, context: Context) -> Scope:
    metadata = context.invocation_metadata() or ()
    return {
        "type": "http",
        "http_version": "2",
        "method": "POST",
        "path": path,
        ROUTE: path,
        "query_string": b"",
        "headers": [(name.encode(), value if isinstance(value, bytes) else value.encode("latin-1", "replace")) for name, value in metadata],
        "client": _client_of(context.peer()),
    }


def _client_of(peer: str) -> tuple[str, int] | None:
    """Return address and port of a peer, such as `ipv4:192.0.2.7:5000` or `ipv6:%5B::1%5D:5000`."""
    _, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    return (host.removeprefix("[").removesuffix("]"), int(port)) if port.isdecimal() else None


def _code_of(error: ServiceError) -> grpc.StatusCode:
    return _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT if error.status < 500 else grpc.StatusCode.INTERNAL)


def _text_of(error: ServiceError) -> str:
    return error.detail if error.image is None else f"image {error.image}: {error.detail}"


def _metadata_of(error: ServiceError, request_id: str) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of an error; gRPC's clients obey `grpc-retry-pushback-ms` (gRPC proposal A6)."""
    ids = (("x-request-id", request_id), ("posewire-problem", error.slug))
    return ids if error.retry_after_s is None else (*ids, ("grpc-retry-pushback-ms", str(error.retry_after_s * 1000)))


async def _check_health(call: _Call) -> Message:
    response = health_pb2.HealthCheckResponse
    return response(status=response.SERVING if call.services.ready else response.NOT_SERVING)


async def _server_live(call: _Call) -> Message:
    engine = call.services.engine
    return messages.ServerLiveResponse(live=engine is None or engine.alive)


async def _server_ready(call: _Call) -> Message:
    return messages.ServerReadyResponse(ready=call.services.ready)


async def _server_metadata(_: _Call) -> Message:
    return messages.ServerMetadataResponse(name=MODEL, version=__version__)


async def _model_ready(call: _Call) -> Message:
    request = messages.ModelReadyRequest()
    _parse(request, await call.short_message())
    check_model(request.name, request.version)
    return messages.ModelReadyResponse(ready=call.services.ready)


async def _model_metadata(call: _Call) -> Message:
    request = messages.ModelMetadataRequest()
    _parse(request, await call.short_message())
    check_model(request.name, request.version)
    specs = output_specs(loaded_engine(call.services))
    return messages.ModelMetadataResponse(
        name=MODEL, versions=[VERSION], platform=MODEL, inputs=_described(INPUTS), outputs=_described(specs)
    )


def _described(specs: Iterable[TensorSpec]) -> Iterator[messages.ModelMetadataResponse.TensorMetadata]:
    return (messages.ModelMetadataResponse.TensorMetadata(name=s.name, datatype=s.datatype, shape=s.shape) for s in specs)


async def _model_infer(call: _Call) -> Message:
    services = call.services
    services.admission.shed_load(call.connection)
    engine = loaded_engine(services)

    async def read(held: HeldBytes) -> InferCall:
        message = await call.message()
        held.add(_COPIES * len(message))
        found = await engine.offload(_read_infer, engine, message)
        held.reduce(sum(len(image.data) for image in found.images))
        return found

    async with admitted(services, call.connection, call.latest, read) as found:
        outputs = await run_call(engine, found, found.deadline(call.started, call.latest))
        return _response(engine, found, outputs)


def _read_infer(engine: Engine, message: bytes) -> InferCall:
    """Return the request of a message.

    Raises:
        UnknownModel: it is for another model.
        BadBody, BadParameter, TooLarge: as `read_call`.
    """
    _check_wire(message)
    request = messages.ModelInferRequest()
    _parse(request, message)
    check_model(request.model_name, request.model_version)
    raw = list(request.raw_input_contents)
    try:
        params = InferParams.model_validate({name: _value_of(value) for name, value in request.parameters.items()})
    except ValidationError as error:
        raise BadParameter(f"parameters: {describe(error)}") from None
    params = params.model_copy(update={"binary_data_output": bool(raw)})  # the answer has the form of the request
    if raw and len(raw) != len(request.inputs):
        raise BadBody(f"raw_input_contents has {len(raw)} elements, and there are {len(request.inputs)} inputs")
    tensors = []
    for i, found in enumerate(request.inputs):
        data = memoryview(raw[i]) if raw else list(getattr(found.contents, _CONTENTS_OF.get(found.datatype, "bytes_contents")))
        tensors.append(Tensor(found.name, found.datatype, tuple(found.shape), data))
    if raw and any(found.HasField("contents") for found in request.inputs):
        raise BadBody("an input has contents beside raw_input_contents; send one of them")
    return read_call(engine, request.id, params, tensors, [RequestedOutput(name=output.name) for output in request.outputs])


def _response(engine: Engine, call: InferCall, outputs: list[OutputTensor]) -> messages.ModelInferResponse:
    response = messages.ModelInferResponse(model_name=MODEL, model_version=VERSION, id=call.id)
    response.parameters["detector"].string_param = engine.detector.spec.name
    response.parameters["pose"].string_param = engine.pose.spec.name
    for output in outputs:
        described = response.outputs.add(name=output.spec.name, datatype=output.spec.datatype, shape=output.shape)
        if call.params.binary_data_output:
            response.raw_output_contents.append(output.binary())
        else:
            getattr(described.contents, _CONTENTS_OF[output.spec.datatype]).extend(output.values())
    return response


def _value_of(parameter: messages.InferParameter) -> object:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)


def _parse(message: Message, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise BadBody(f"the message is not a {message.DESCRIPTOR.full_name}") from None


def _check_wire(data: bytes) -> None:
    """Check what the parser would need memory for: the number of fields, and the bytes beside the images.

    Source: https://protobuf.dev/programming-guides/encoding/.

    Raises:
        BadBody: the bytes are not fields.
        TooLarge: there are too many.
    """
    fields = other_bytes = 0
    waiting: list[tuple[memoryview, tuple[int, ...]]] = [(memoryview(data), ())]
    while waiting:
        part, path = waiting.pop()
        for number, content in _fields(part):
            fields += 1
            inner = (*path, number)
            if content is None or inner in ((_RAW_CONTENTS,), (_INPUTS, _CONTENTS, _BYTES_CONTENTS)):
                pass
            elif inner in ((_INPUTS,), (_INPUTS, _CONTENTS)):
                waiting.append((content, inner))
            else:
                other_bytes += len(content)
            if fields > _MAX_FIELDS or other_bytes > _MAX_OTHER_BYTES:
                raise TooLarge(f"the message has more than {_MAX_FIELDS} fields, or {_MAX_OTHER_BYTES} bytes beside the images")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """Yield the number of each field, and its content if it has a length."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        content = None
        if kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(data, at)
            content, at = data[at : at + length], at + length
        if kind not in (0, 1, 2, 5) or at > len(data):
            raise BadBody("the message is not made of protobuf's fields")
        yield tag >> 3, content


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number that begins there, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise BadBody("the message is not made of protobuf's fields")


_METHODS: Final[Mapping[str, _Method]] = {
    f"/{HEALTH}/Check": _Method(_check_health, is_open=True),
    f"/{SERVICE}/ServerLive": _Method(_server_live, is_open=True),
    f"/{SERVICE}/ServerReady": _Method(_server_ready, is_open=True),
    f"/{SERVICE}/ServerMetadata": _Method(_server_metadata),
    f"/{SERVICE}/ModelReady": _Method(_model_ready),
    f"/{SERVICE}/ModelMetadata": _Method(_model_metadata),
    f"/{SERVICE}/ModelInfer": _Method(_model_infer),
}
