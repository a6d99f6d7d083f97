"""`/v1/cameras`: the cameras that the service watches, their events and their images."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from posewire.cameras.broadcast import MAX_RECENT, Line, Reader
from posewire.cameras.cameras import Cameras, shown
from posewire.errors import (
    BadBody,
    BadParameter,
    CameraExists,
    ForbiddenPlace,
    NoSuchCamera,
    NotReady,
    Overloaded,
    ServiceError,
    StateUnavailable,
    TimedOut,
    TooLarge,
    TooManyStreams,
    UnsupportedEncoding,
)
from posewire.schemas.cameras import CameraName, CameraOut, CameraPatch, CamerasOut, CameraSpec
from posewire.server.bodies import BodyRoute
from posewire.server.estimation import loaded_engine
from posewire.server.limits import client_of
from posewire.server.openapi import BINARY, problems
from posewire.server.services import Services, services_of
from posewire.server.stream import end_with

router = APIRouter(tags=["cameras"], route_class=BodyRoute)

_BOUNDARY = "posewire-frame"
_SNAPSHOT_S = 5.0  # to wait for a first frame
_KEEP_ALIVE_S = 15.0
_SSE_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Name = Annotated[CameraName, Path(description="The camera's name.")]

_MISSING = (NoSuchCamera, BadParameter, NotReady, StateUnavailable)
_BAD_SPEC = (BadParameter, ForbiddenPlace, NotReady, StateUnavailable, Overloaded, BadBody, TimedOut, TooLarge, UnsupportedEncoding)
_STREAMING = problems(*_MISSING, TooManyStreams, Overloaded)


def _cameras_of(request: Request | WebSocket) -> tuple[Services, Cameras]:
    services = services_of(request)
    loaded_engine(services)
    return services, services.cameras


@router.post(
    "/v1/cameras",
    status_code=201,
    operation_id="add_camera",
    summary="Add a camera, and watch it",
    responses=problems(*_BAD_SPEC, CameraExists),
)
async def add_camera(request: Request, spec: CameraSpec) -> CameraOut:
    """The camera is kept over restarts. Its user, its password and the secrets of its sinks are never answered."""
    _, cameras = _cameras_of(request)
    return await cameras.add(spec)


@router.get(
    "/v1/cameras",
    operation_id="list_cameras",
    summary="All cameras, and how they are doing",
    responses=problems(NotReady, StateUnavailable),
)
async def list_cameras(request: Request) -> CamerasOut:
    """By name."""
    _, cameras = _cameras_of(request)
    return CamerasOut(cameras=cameras.all())


@router.get(
    "/v1/cameras/events",
    operation_id="follow_cameras",
    summary="Events of all cameras, as they happen",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **problems(BadParameter, NotReady, StateUnavailable, TooManyStreams, Overloaded),
    },
)
async def all_events(
    request: Request,
    recent: Annotated[int, Query(ge=0, le=MAX_RECENT, description="The most earlier events that come first.")] = 0,
    last_event_id: Annotated[
        str | None, Header(description="Id of the last event that is known: the later ones come first, if the service still has it.")
    ] = None,
) -> StreamingResponse:
    """Server-sent events: `event: event`, `id:`, and `data:` with `camera`, `time` and `message`. It goes on when cameras are changed."""
    services, cameras = _cameras_of(request)
    cameras.all()  # raises where another process watches

    async def lines(reader: Reader) -> AsyncIterator[bytes]:
        yield b": connected\n\n"
        async for line in _with_pauses(reader):
            yield b": still here\n\n" if line is None else f"event: event\nid: {line.id}\ndata: {line.text}\n\n".encode()

    reading = cameras.events.reading(recent=recent, after=last_event_id)
    return _Streaming(services, request, reading, lines, media_type="text/event-stream", headers=_SSE_HEADERS)


@router.get("/v1/cameras/{name}", operation_id="get_camera", summary="One camera, and how it is doing", responses=problems(*_MISSING))
async def get_camera(request: Request, name: Name) -> CameraOut:
    """Without credentials."""
    _, cameras = _cameras_of(request)
    return shown(cameras.get(name))


@router.patch("/v1/cameras/{name}", operation_id="change_camera", summary="Change a camera", responses=problems(*_BAD_SPEC, NoSuchCamera))
async def change_camera(request: Request, name: Name, patch: CameraPatch) -> CameraOut:
    """Fields that are not given stay as they are. The camera is connected anew, and its identities start anew."""
    _, cameras = _cameras_of(request)
    return await cameras.change(name, patch)


@router.delete(
    "/v1/cameras/{name}", status_code=204, operation_id="remove_camera", summary="Remove a camera", responses=problems(*_MISSING)
)
async def remove_camera(request: Request, name: Name) -> Response:
    """Its messages that wait for a sink stay on disk until a camera of the same name has the same sink."""
    _, cameras = _cameras_of(request)
    await cameras.remove(name)
    return Response(status_code=204)


@router.get(
    "/v1/cameras/{name}/events",
    operation_id="follow_camera",
    summary="Results and events of a camera, as they happen",
    response_class=StreamingResponse,
    responses={200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}, **_STREAMING},
)
async def camera_events(
    request: Request, name: Name, results: Annotated[bool, Query(description="False: events alone.")] = True
) -> StreamingResponse:
    """Server-sent events: `event: result` or `event: event`, and `data:` with the message. Ends when the camera is changed or removed."""
    services, cameras = _cameras_of(request)
    watcher = cameras.get(name)

    async def lines(reader: Reader) -> AsyncIterator[bytes]:
        yield b": connected\n\n"
        async for line in _with_pauses(reader):
            if line is None:
                yield b": still here\n\n"
            elif results or line.kind == "event":
                yield f"event: {line.kind}\ndata: {line.text}\n\n".encode()

    return _Streaming(services, request, watcher.broadcast.reading(), lines, media_type="text/event-stream", headers=_SSE_HEADERS)


@router.get(
    "/v1/cameras/{name}/live",
    operation_id="show_camera",
    summary="Live images of a camera with skeletons",
    response_class=StreamingResponse,
    responses={200: {"description": "Motion JPEG.", "content": {"multipart/x-mixed-replace": BINARY}}, **_STREAMING},
)
async def camera_live(request: Request, name: Name) -> StreamingResponse:
    """Motion JPEG, for browsers' `<img>` and Home Assistant: the newest image as soon as the reader has taken the one before."""
    services, cameras = _cameras_of(request)
    watcher = cameras.get(name)

    async def images(reader: Reader) -> AsyncIterator[bytes]:
        sent = -1
        async for _ in _with_pauses(reader):
            drawn = await watcher.jpeg()
            if drawn is not None and drawn[0] != sent:
                sent, data = drawn
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                yield head.encode() + data + b"\r\n"

    media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
    reading = watcher.broadcast.reading()
    return _Streaming(services, request, reading, images, media_type=media_type, headers={"Cache-Control": "no-store"})


@router.get(
    "/v1/cameras/{name}/snapshot",
    operation_id="get_snapshot",
    summary="The newest image of a camera with skeletons",
    response_class=Response,
    responses={200: {"description": "A JPEG file.", "content": {"image/jpeg": BINARY}}, **problems(*_MISSING)},
)
async def camera_snapshot(request: Request, name: Name) -> Response:
    """A JPEG. If the camera has had no frame for five seconds after the request, 503."""
    _, cameras = _cameras_of(request)
    watcher = cameras.get(name)
    with watcher.broadcast.reading() as reader, suppress(TimeoutError):
        async with asyncio.timeout(0 if watcher.broadcast.newest else _SNAPSHOT_S):
            await anext(reader.lines(), None)
    drawn = await watcher.jpeg()
    if drawn is None:
        raise NotReady(f"the camera has no frame yet: it is {watcher.status.state}", retry_after_s=5)
    return Response(drawn[1], media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.websocket("/v1/cameras/{name}/events")
async def camera_socket(websocket: WebSocket, name: str) -> None:
    """The same messages as text messages of a WebSocket. The client sends nothing."""
    try:
        services, cameras = _cameras_of(websocket)
        watcher = cameras.get(name)
        with watcher.broadcast.reading() as reader, services.streams.enter(reader, client_of(websocket)):
            await websocket.accept()
            sending = asyncio.create_task(_send(websocket, reader), name="camera-events")
            try:
                while (await websocket.receive())["type"] != "websocket.disconnect":
                    pass
            finally:
                sending.cancel()
    except ServiceError as error:
        await end_with(websocket, services_of(websocket).metrics, error)


async def _send(websocket: WebSocket, reader: Reader) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):  # the client has gone
        async for line in reader.lines():
            await websocket.send_text(line.text)
        await websocket.close(1001, "the camera was changed or removed, or the service stops")


async def _with_pauses(reader: Reader) -> AsyncIterator[Line | None]:
    """Yield messages, and None after a time without one."""
    messages = aiter(reader.lines())
    waiting = asyncio.ensure_future(anext(messages, None))
    try:
        while True:
            done, _ = await asyncio.wait([waiting], timeout=_KEEP_ALIVE_S)
            if not done:
                yield None
                continue
            if (line := waiting.result()) is None:
                return
            yield line
            waiting = asyncio.ensure_future(anext(messages, None))
    finally:
        waiting.cancel()


class _Streaming(StreamingResponse):
    """An answer that follows cameras; it holds a slot of a stream while it is sent.

    Raises:
        Overloaded, TooManyStreams: there is no slot.
    """

    def __init__(
        self,
        services: Services,
        request: Request,
        reading: AbstractContextManager[Reader],
        content: Callable[[Reader], AsyncIterator[bytes]],
        *,
        media_type: str,
        headers: dict[str, str],
    ) -> None:
        self._stack = ExitStack()
        reader = self._stack.enter_context(reading)
        self._stack.enter_context(services.streams.enter(reader, client_of(request)))
        super().__init__(content(reader), media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        with self._stack:
            await super().__call__(scope, receive, send)
