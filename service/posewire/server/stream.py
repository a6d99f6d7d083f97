"""WS /v1/stream: frames in, people out; late frames are dropped.

    client                                       service
      {"type": "start", …}            ->
                                      <-         {"type": "started", …}
      a frame, binary                 ->
      a frame, binary                 ->
                                      <-         {"type": "result", "seq": 1, "dropped": 1, …}
      {"type": "ack", "seq": 1}       ->

The service works on one frame of a stream at a time, and keeps only the newest of the frames that come meanwhile.
docs/streaming.md has the protocol for authors of clients.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial

from fastapi import APIRouter, WebSocket
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocketDisconnect, WebSocketState

from posewire.engine.engine import Engine
from posewire.errors import BadMessage, Draining, ServiceError, TimedOut, TooFast
from posewire.schemas.stream import StartMessage, parse_ack, parse_start
from posewire.server.estimation import loaded_engine
from posewire.server.first_end import first_end
from posewire.server.latest_frame import LatestFrame
from posewire.server.limits import client_of
from posewire.server.problems import problem_fields, reject, reject_by_status
from posewire.server.services import Services, services_of
from posewire.server.stream_worker import StreamWorker, started_message
from posewire.telemetry.metrics import Metrics

# Frames of a camera and their acknowledgements are far fewer.
_MAX_MESSAGES_A_SECOND = 1000

# A close frame has room for 123 bytes of UTF-8.
_REASON_BYTES = 123

# A close frame waits this long behind messages that the client has not read; then uvicorn closes the connection.
_CLOSE_S = 1.0

log = logging.getLogger(__name__)

router = APIRouter()


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """Serve one stream, from its handshake to its close code."""
    services = services_of(websocket)
    settings = services.settings
    frames = LatestFrame(settings.stream_credits, settings.stream_idle_s)
    try:
        with services.streams.enter(frames, client_of(websocket)):
            await websocket.accept()
            await _serve(websocket, services, frames)
    except WebSocketDisconnect as gone:
        _log_end(frames, gone.code, {"detail": gone.reason or "the client has gone"})
    except ServiceError as error:
        if not await end_with(websocket, services.metrics, error):
            _log_end(frames, error.close_code, problem_fields(error))
    except Exception:
        log.exception("unhandled error")
        failed = ServiceError("the service failed on this stream; its log has the cause under the request id")
        await end_with(websocket, services.metrics, failed)
        _log_end(frames, failed.close_code, problem_fields(failed))


@router.websocket("/{path:path}")
async def nowhere(websocket: WebSocket) -> None:
    """Answer the handshake of a stream to any other path as HTTP answers a wrong path."""
    error = HTTPException(404, "no stream is at this path; they are at /v1/stream")
    await websocket.send_denial_response(reject_by_status(websocket.scope, error))


async def _serve(websocket: WebSocket, services: Services, frames: LatestFrame) -> None:
    """Serve until the client leaves (WebSocketDisconnect) or an error ends the stream (ServiceError)."""
    if services.draining:
        raise Draining
    engine = loaded_engine(services)
    start = await _receive_start(websocket, services.settings.stream_start_s)
    await websocket.send_text(started_message(engine, start).model_dump_json())
    worker = StreamWorker(engine, frames, start, websocket.headers)
    tasks = [
        asyncio.create_task(_read(websocket, frames, engine), name="stream-read"),
        asyncio.create_task(worker.run(partial(_send, websocket)), name="stream-work"),
    ]
    try:
        await first_end(tasks)
    finally:
        if frames.waiting:
            engine.metrics.count_dropped_frame("closed")


async def _receive_start(websocket: WebSocket, within_s: float) -> StartMessage:
    try:
        async with asyncio.timeout(within_s):
            message = await _receive(websocket)
    except TimeoutError:
        raise TimedOut(f'no {{"type": "start"}} came within {within_s:g} seconds') from None
    if isinstance(message, bytes):
        raise BadMessage('the first message is {"type": "start", …} as text; frames come after it')
    return parse_start(message)


async def _read(websocket: WebSocket, frames: LatestFrame, engine: Engine) -> None:
    """Read frames and acknowledgements as fast as they come: an unread frame grows old in the network."""
    idle_s = engine.settings.stream_idle_s
    window_start, messages = time.monotonic(), 0
    while True:
        try:
            async with asyncio.timeout(idle_s):
                message = await _receive(websocket)
        except TimeoutError:
            raise TimedOut(f"neither a frame nor an acknowledgement came within {idle_s:g} seconds") from None
        now = time.monotonic()
        if now - window_start >= 1:
            window_start, messages = now, 0
        messages += 1
        if messages > _MAX_MESSAGES_A_SECOND:
            raise TooFast(f"more than {_MAX_MESSAGES_A_SECOND} messages came within a second")
        if isinstance(message, str):
            frames.acknowledge(parse_ack(message).seq)
        else:
            engine.metrics.count_received_frame()
            if frames.put(message, now):
                engine.metrics.count_dropped_frame("newer")
        await asyncio.sleep(0)  # messages that came together need no wait: let other tasks run in between


async def _receive(websocket: WebSocket) -> bytes | str:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006), message.get("reason"))
    data: bytes | None = message.get("bytes")
    return data if data is not None else str(message["text"])


async def _send(websocket: WebSocket, text: str) -> None:
    try:
        await websocket.send_text(text)
    except RuntimeError:  # uvicorn has closed it: no pong came, or a message was too large
        raise WebSocketDisconnect(1006) from None


async def end_with(websocket: WebSocket, metrics: Metrics, error: ServiceError) -> bool:
    """End a stream with an error, and count it. Return True if the handshake is answered over HTTP, which the access log has.

    That is so if the stream has not begun, except for a browser, which shows neither status nor reason to its page.
    """
    answer = reject(metrics, websocket.scope, error)
    connecting = websocket.application_state is WebSocketState.CONNECTING
    if connecting and "origin" not in websocket.headers and "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(answer)
        return True
    if connecting:
        await websocket.accept()
    await _close(websocket, error.close_code, error.detail)
    return False


def _log_end(frames: LatestFrame, code: int, why: Mapping[str, object]) -> None:
    log.info("stream ended", extra={"code": code, **why, "received": frames.received, "answered": frames.answers})


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    shown = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
    try:
        async with asyncio.timeout(_CLOSE_S):
            await websocket.close(code, shown)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        pass  # the client has gone, or does not read
