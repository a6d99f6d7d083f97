"""POST /v1/video: a video in, one line a frame out while the video is processed."""

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Message, Receive, Scope, Send

from posewire.engine.engine import Engine
from posewire.engine.video_session import PoseSession
from posewire.errors import (
    BadBody,
    BadParameter,
    BadVideo,
    DeadlineExceeded,
    DecoderFailed,
    Draining,
    NoSpace,
    NotInstalled,
    NotReady,
    Overloaded,
    RateLimited,
    ServiceError,
    TimedOut,
    TooLarge,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from posewire.formats.base import Format, FormatOptions, ImagePoses
from posewire.formats.registry import FORMATS
from posewire.pipeline.tracking.video import DETECT_EVERY
from posewire.schemas.pose import ModelNames
from posewire.schemas.stream import StreamProblem
from posewire.schemas.video import AnswerLine, EndLine, ErrorLine, FrameLine, VideoLine
from posewire.server.bodies import bounded, paced
from posewire.server.estimation import loaded_engine
from posewire.server.limits import client_of
from posewire.server.middleware import cancel_on_disconnect
from posewire.server.openapi import BINARY, TRACING_HEADERS, problems, schema_of
from posewire.server.problems import note
from posewire.server.services import Services, services_of
from posewire.telemetry.logs import request_id_var
from posewire.types import PoseResult, Priority
from posewire.video.frames import frames
from posewire.video.process import DecodingProcess
from posewire.video.reading import VideoFrame, VideoInfo, check_length, import_av

log = logging.getLogger(__name__)

_OTHER_TYPES = ("application/octet-stream", "application/ogg")  # beside video/*

# A frame that is not admitted is tried again after this time: about the time of one image.
_ADMISSION_RETRY_S = 0.05

# Uploads wait for their clients, so there may be more of them than of videos that are worked on; one client has half of the places at most.
UPLOADS_PER_VIDEO = 4

# An upload holds its place no longer than this, however fast it is.
UPLOAD_MAX_S = 600.0

# The time to write a line to the client, and the time to decode a frame; each on the wall's clock.
WRITE_S = 30.0
DECODE_S = 60.0

# A video whose client reads nothing for this long is ended if others find no place.
UNREAD_S = 2.0

# After the beginning of a drain, who waits for a client waits no longer than this.
DRAIN_WAIT_S = 1.0

_NDJSON = "application/x-ndjson"

router = APIRouter(tags=["video"])


class VideoParams(BaseModel):
    """The query of POST /v1/video."""

    model_config = ConfigDict(extra="forbid")

    track: bool = Field(True, description="Give each person a track_id that stays the same from frame to frame.")
    smooth: bool = Field(True, description="Reduce the jitter of the keypoints; only with track.")
    detect_every: Annotated[int, Field(ge=1, le=1000)] = Field(
        DETECT_EVERY, description="Limit of frames between two runs of the detector."
    )
    min_detection_score: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="People below this score are left out.")
    min_keypoint_score: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="Keypoints below this score are left out.")
    max_people: Annotated[int, Field(ge=1)] | None = Field(None, description="Limit of people per frame; the best are returned.")
    format: Literal["posewire", "csv", "parquet"] = Field(
        "posewire", description="JSON lines, or a table with a row per keypoint; a table that an error ends is cut short."
    )


@router.post(
    "/v1/video",
    operation_id="process_video",
    summary="Find and follow everyone in a video",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "NDJSON: a line about the video, one a frame, and a last one: end, or error. Each line is an `AnswerLine`. "
            "With `format`, a table.",
            "content": {
                _NDJSON: {
                    "schema": {"type": "string"},
                    # OpenAPI 3.2 has `itemSchema` for this; 3.1 has nothing.
                    "x-itemSchema": schema_of(AnswerLine, name="AnswerLine"),
                },
                FORMATS["csv"].media_type: {"schema": {"type": "string"}},
                FORMATS["parquet"].media_type: BINARY,
            },
        },
        **problems(
            *(BadVideo, BadBody, TimedOut, TooLarge, UnsupportedMediaType, UnsupportedEncoding, BadParameter, RateLimited),
            *(DecoderFailed, NotInstalled, Overloaded, NotReady, Draining, DeadlineExceeded, NoSpace),
        ),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The video as it is in its file.",
            "content": {"application/octet-stream": BINARY, "video/*": BINARY},
        },
        "parameters": TRACING_HEADERS,
    },
)
async def video(request: Request, params: Annotated[VideoParams, Query()]) -> StreamingResponse:
    """Send a video file. The answer comes while it is processed: one JSON object a line, the last of `type` `end` or `error`."""
    services = services_of(request)
    engine = loaded_engine(services)
    if services.draining:
        raise Draining
    import_av()
    form = FORMATS[params.format]
    form.check(normalized=False)
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if not media_type.startswith("video/") and media_type not in _OTHER_TYPES:
        raise UnsupportedMediaType(
            f"{media_type or 'a request without Content-Type'} is not supported: send video/*, {' or '.join(_OTHER_TYPES)}"
        )
    settings = services.settings
    _check_slot(services)  # else a whole video would be sent in vain
    with _temporary_file() as file:
        with _upload_place(services, client_of(request)):
            await _receive(request, services, engine, file)
        with ExitStack() as stack:
            stack.enter_context(_slot(services))
            reader = DecodingProcess(
                file,
                max_pixels=settings.video_max_pixels,
                max_frames=settings.video_max_frames,
                max_seconds=settings.video_max_seconds,
            )
            stack.callback(reader.close)
            try:
                async with _waiting(services, DECODE_S):
                    info = await asyncio.to_thread(reader.start)
            except TimeoutError:
                raise _stuck(services) from None
            run = _Run(request, engine, params, reader, info)
            if form.name == "posewire":
                return _Answer(services, run.lines(), _NDJSON, stack.pop_all())
            return _Answer(services, run.table(form), form.media_type, stack.pop_all())


class _Answer(StreamingResponse):
    """A response of parts as they come. It releases the video however it ends: also if the client goes, or does not read."""

    def __init__(self, services: Services, parts: AsyncGenerator[bytes, None], media_type: str, held: ExitStack) -> None:
        super().__init__(parts, media_type=media_type, headers={"X-Accel-Buffering": "no"})
        self._services = services
        self._parts = parts
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        with self._held:
            try:
                async with cancel_on_disconnect(receive), aclosing(self._parts) as parts:
                    await self._send(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                    async for part in parts:
                        await self._send(send, {"type": "http.response.body", "body": part, "more_body": True})
                    await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
            except ServiceError as error:
                # The answer has begun: the server closes the connection, which shows the client that it is incomplete.
                note(self._services.metrics, scope, error)

    async def _send(self, send: Send, message: Message) -> None:
        try:
            async with _waiting(self._services, WRITE_S, DRAIN_WAIT_S) as timeout:
                self._services.unread_videos[timeout] = asyncio.get_running_loop().time()
                try:
                    await send(message)
                finally:
                    del self._services.unread_videos[timeout]
        except TimeoutError:
            raise TimedOut("the client does not read the answer") from None


@asynccontextmanager
async def _waiting(services: Services, seconds: float, drain_s: float = 0.0) -> AsyncIterator[asyncio.Timeout]:
    """Limit the time of a block, and what is left of it from the beginning of a drain on; yields the limit.

    Args:
        services: of the application.
        seconds: limit of time.
        drain_s: limit of seconds after the service has begun to drain.

    Raises:
        TimeoutError: the time is over.
    """

    async def watch() -> None:
        await services.drain.wait()
        if not timeout.expired():
            timeout.reschedule(min(until, loop.time() + drain_s))

    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    async with asyncio.timeout_at(until) as timeout:
        watcher = asyncio.create_task(watch(), name="drain-watch")
        try:
            yield timeout
        finally:
            watcher.cancel()


def _stuck(services: Services) -> ServiceError:
    """Return the error for a video whose next frame does not come in time."""
    if services.draining:
        return Draining()
    return DecoderFailed(f"the decoder gave no frame of this video for {DECODE_S:g} seconds; send the video again, or convert it")


@contextmanager
def _slot(services: Services) -> Iterator[None]:
    """Hold one of the places for videos that are processed."""
    _check_slot(services)
    services.videos += 1
    try:
        yield
    finally:
        services.videos -= 1


def _check_slot(services: Services) -> None:
    """Raise Overloaded if no place is free; then also end a video whose client does not read."""
    limit = services.settings.max_videos
    if services.videos < limit:
        return
    now = asyncio.get_running_loop().time()
    unread = [timeout for timeout, since in services.unread_videos.items() if now - since >= UNREAD_S and not timeout.expired()]
    if unread:
        unread[0].reschedule(now)
    raise Overloaded(
        f"{limit} videos are being worked on, more are not taken; try again later", limit="videos", retry_after_s=1 if unread else 10
    )


@contextmanager
def _upload_place(services: Services, client: str) -> Iterator[None]:
    """Hold one of the places for uploads."""
    limit = UPLOADS_PER_VIDEO * services.settings.max_videos
    if services.uploads.total() >= limit:
        raise Overloaded(f"{limit} videos are being uploaded, more are not taken; try again later", limit="uploads", retry_after_s=10)
    share = max(limit // 2, 1)
    if services.uploads[client] >= share:
        raise RateLimited(f"this client uploads {share} videos already; try again when one is complete", retry_after_s=10)
    services.uploads[client] += 1
    try:
        yield
    finally:
        services.uploads[client] -= 1
        if not services.uploads[client]:
            del services.uploads[client]


def _temporary_file() -> IO[bytes]:
    """Open a file without a name: nothing is left behind, however the service ends."""
    try:
        # Not `tempfile.gettempdir()`, which takes some other folder if this one is full.
        return tempfile.TemporaryFile(buffering=0, dir=os.environ.get("TMPDIR") or None)
    except OSError as error:
        raise _no_space(error) from None


def _no_space(error: OSError) -> NoSpace:
    reason = (error.strerror or "no room").partition(" in [")[0].lower()  # without a list of folders
    return NoSpace(f"the video cannot be kept: {reason}; try again later, or set TMPDIR to a folder with room", retry_after_s=60)


async def _receive(request: Request, services: Services, engine: Engine, file: IO[bytes]) -> None:
    """Write the body to a file: a video may be larger than the memory."""
    try:
        async with _waiting(services, UPLOAD_MAX_S), aclosing(paced(bounded(request, services.settings.video_max_bytes))) as body:
            async for piece in body:
                await engine.offload(_write, file, piece)
    except TimeoutError:
        if services.draining:
            raise Draining from None
        raise DeadlineExceeded(f"the video was not complete after {UPLOAD_MAX_S:g} seconds; send a smaller one") from None


def _write(file: IO[bytes], piece: bytes) -> None:
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _no_space(error) from None


class _Run:
    """One video, frame by frame through the engine."""

    def __init__(self, request: Request, engine: Engine, params: VideoParams, reader: DecodingProcess, info: VideoInfo) -> None:
        self._scope = request.scope
        self._services = services_of(request)
        settings = self._services.settings
        self._engine = engine
        self._reader = reader
        self._info = info
        self._threshold = params.min_keypoint_score
        self._identities: set[int] = set()
        options = settings.pose_options(params.min_detection_score, params.max_people)
        self._session = PoseSession(
            engine, options, track=params.track, smooth=params.smooth, detect_every=params.detect_every, priority=Priority.BULK
        )

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield the lines of the answer: the video, its frames, and the end or the error that ended it."""
        engine, info, done = self._engine, self._info, 0
        names = engine.pose.spec.keypoints.names
        yield _line(
            VideoLine(
                request_id=request_id_var.get() or "",
                model=ModelNames(detector=engine.detector.spec.name, pose=engine.pose.spec.name),
                width=info.width,
                height=info.height,
                frame_rate=round(info.rate, 3),
                frames=info.frames,
                duration_s=info.duration_s,
            )
        )
        try:
            async with aclosing(self._results()) as results:
                async for source, result in results:
                    yield _line(FrameLine.from_result(result, names, self._threshold, frame=source.index, pts_s=source.t_seconds))
                    done += 1
        except ServiceError as error:
            yield self._error_line(error)
        except Exception:
            log.exception("unhandled error")
            yield self._error_line(ServiceError("the service failed on this video; its log has the cause"))
        else:
            yield _line(EndLine(frames=done, people=len(self._identities)))

    def _error_line(self, error: ServiceError) -> bytes:
        note(self._engine.metrics, self._scope, error)
        return _line(ErrorLine(problem=StreamProblem.from_error(error)))

    async def table(self, form: Format) -> AsyncGenerator[bytes, None]:
        """Yield the parts of a table of all frames.

        Raises:
            ServiceError: the video cannot be processed to its end; a table has no place for an error, so it is cut short.
        """
        spec = self._engine.pose.spec
        encoder = form.encoder(FormatOptions(spec.keypoints, spec.name, self._threshold))
        yield encoder.head()
        async with aclosing(self._results()) as results:
            async for source, result in results:
                if part := encoder.image(ImagePoses(0, result, source.index, source.t_seconds * 1000)):
                    yield part
        yield encoder.tail()

    async def _results(self) -> AsyncGenerator[tuple[VideoFrame, PoseResult], None]:
        """Yield the frames with their people.

        Raises:
            ServiceError: the video cannot be processed to its end.
        """
        settings = self._services.settings
        async with aclosing(frames(self._reader, None)) as stream:
            while (source := await self._next(stream)) is not None:
                check_length(
                    source.index + 1, source.t_seconds, max_frames=settings.video_max_frames, max_seconds=settings.video_max_seconds
                )
                yield source, await self._step(source)

    async def _next(self, stream: AsyncGenerator[VideoFrame, None]) -> VideoFrame | None:
        try:
            async with _waiting(self._services, DECODE_S):
                return await anext(stream, None)
        except TimeoutError:
            raise _stuck(self._services) from None

    async def _step(self, source: VideoFrame) -> PoseResult:
        """Estimate one frame, admitted like an image: a video is never more than one image in flight."""
        loop, timeout_s = asyncio.get_running_loop(), self._services.settings.request_timeout_ms / 1000
        started = loop.time()
        while True:
            if self._services.draining:
                raise Draining
            try:
                with self._services.admission.enter(1):
                    result = await self._session.step(source.frame, source.t_seconds, deadline=loop.time() + timeout_s)
            except Overloaded:
                if loop.time() - started > timeout_s:
                    raise
                await asyncio.sleep(_ADMISSION_RETRY_S)
            else:
                break
        self._identities |= {person.track_id for person in result.people if person.track_id is not None}
        return result


def _line(line: BaseModel) -> bytes:
    return line.model_dump_json().encode() + b"\n"
