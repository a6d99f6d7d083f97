"""POST /v1/video: a video in, one line a frame out while the video is processed."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from typing import IO, Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from posewire.config import Settings
from posewire.engine.engine import Engine
from posewire.engine.video_session import PoseSession
from posewire.errors import DeadlineExceeded, Draining, NoSpace, NotReady, Overloaded, ServiceError, TooLarge, UnsupportedMediaType
from posewire.pipeline.tracking.video import DETECT_EVERY
from posewire.schemas.pose import ModelNames
from posewire.schemas.stream import StreamProblem
from posewire.schemas.video import EndLine, ErrorLine, FrameLine, VideoLine
from posewire.server.bodies import bounded
from posewire.server.services import Services, services_of
from posewire.telemetry.logs import request_id_var
from posewire.types import Priority
from posewire.video.frames import frames
from posewire.video.reading import VideoFrame, VideoReader, import_av

log = logging.getLogger(__name__)

_OTHER_TYPES = ("application/octet-stream", "application/ogg")  # beside video/*

# A frame that is not admitted is tried again after this time: about the time of one image.
_ADMISSION_RETRY_S = 0.05

_VIDEO = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter()


class VideoParams(BaseModel):
    """The query of POST /v1/video."""

    model_config = ConfigDict(extra="forbid")

    track: bool = Field(True, description="Give each person an identity that lasts from frame to frame.")
    smooth: bool = Field(True, description="Take the jitter out of the keypoints; only with track.")
    detect_every: Annotated[int, Field(ge=1, le=1000)] = Field(
        DETECT_EVERY, description="The most frames between two runs of the detector."
    )
    min_detection_score: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="People below are left out.")
    min_keypoint_score: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="Keypoints below are left out.")
    max_people: Annotated[int, Field(ge=1)] | None = Field(None, description="The best so many people of each frame.")


@router.post(
    "/v1/video",
    summary="Find and follow everyone in a video",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "NDJSON: a line about the video, one a frame, and a last one: end, or error.",
            "content": {"application/x-ndjson": {}},
        },
        "default": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {"schema": {"type": "object"}}}},
    },
    openapi_extra={"requestBody": {"required": True, "content": {"video/*": _VIDEO, "application/octet-stream": _VIDEO}}},
)
async def video(request: Request, params: Annotated[VideoParams, Query()]) -> StreamingResponse:
    """Raw video. The answer comes while it is worked on: one JSON object a line, the last of `type` `end` or `error`."""
    services = services_of(request)
    if services.engine is None:
        raise NotReady("the models are not loaded yet; try again", retry_after_s=1)
    if services.draining:
        raise Draining("the service is stopping; try again at another instance")
    import_av()
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if not media_type.startswith("video/") and media_type not in _OTHER_TYPES:
        raise UnsupportedMediaType(
            f"{media_type or 'a request without Content-Type'} is not supported: send video/*, {' or '.join(_OTHER_TYPES)}"
        )
    with ExitStack() as stack:
        stack.enter_context(_slot(services))
        file = stack.enter_context(_temporary_file())
        await _receive(request, services.engine, file)
        reader = await services.engine.offload(VideoReader, file.name, max_pixels=services.settings.video_max_pixels)
        stack.callback(reader.close)
        _check_length(reader.info.frames, reader.info.duration_s, services.settings)
        return _Answer(_Run(services, services.engine, params, reader).lines(), stack.pop_all())


class _Answer(StreamingResponse):
    """A response of lines as they come. It releases the video however it ends, even if the client goes before the first line."""

    def __init__(self, lines: AsyncGenerator[str, None], held: ExitStack) -> None:
        super().__init__(lines, media_type="application/x-ndjson", headers={"X-Accel-Buffering": "no"})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        with self._held:
            await super().__call__(scope, receive, send)


@contextmanager
def _slot(services: Services) -> Iterator[None]:
    limit = services.settings.max_videos
    if services.videos >= limit:
        raise Overloaded(f"{limit} videos are being worked on, more are not taken; try again later", retry_after_s=10)
    services.videos += 1
    try:
        yield
    finally:
        services.videos -= 1


def _temporary_file() -> IO[bytes]:
    try:
        return tempfile.NamedTemporaryFile(prefix="posewire-video-")
    except OSError as error:
        raise NoSpace(
            f"the video cannot be kept: {(error.strerror or 'no room').lower()}; set TMPDIR to a folder that can be written"
        ) from None


async def _receive(request: Request, engine: Engine, file: IO[bytes]) -> None:
    """Write the body to a file: a video may be larger than the memory."""
    timeout_s = engine.settings.request_timeout_ms / 1000
    async with aclosing(bounded(request, engine.settings.video_max_bytes)) as body:
        try:
            while True:
                async with asyncio.timeout(timeout_s):
                    piece = await anext(body, None)
                if piece is None:
                    break
                await engine.offload(file.write, piece)
            await engine.offload(file.flush)
        except TimeoutError:
            raise DeadlineExceeded(f"nothing of the video arrived for {timeout_s:g} seconds") from None
        except OSError as error:
            raise NoSpace(f"the video cannot be kept: {(error.strerror or 'no room').lower()}; try again later", retry_after_s=60) from None


def _check_length(frames: int | None, seconds: float | None, settings: Settings) -> None:
    """Raise TooLarge for a video that is longer than the settings allow."""
    if seconds is not None and seconds > settings.video_max_seconds:
        raise TooLarge(f"the video is longer than {settings.video_max_seconds:g} s, which is the most that is taken; cut it")
    if frames is not None and frames > settings.video_max_frames:
        raise TooLarge(f"the video has more than {settings.video_max_frames} frames, which is the most that is taken; cut it")


class _Run:
    """One video, frame by frame through the engine."""

    def __init__(self, services: Services, engine: Engine, params: VideoParams, reader: VideoReader) -> None:
        settings = services.settings
        self._services = services
        self._engine = engine
        self._reader = reader
        self._threshold = params.min_keypoint_score
        self._identities: set[int] = set()
        options = settings.pose_options(params.min_detection_score, params.max_people)
        self._session = PoseSession(
            engine, options, track=params.track, smooth=params.smooth, detect_every=params.detect_every, priority=Priority.BULK
        )

    async def lines(self) -> AsyncGenerator[str, None]:
        """Yield the lines of the answer: the video, its frames, and the end or the error that ended it."""
        engine, info, done = self._engine, self._reader.info, 0
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
            async with aclosing(frames(self._reader, None)) as stream:
                async for source in stream:
                    _check_length(source.index + 1, source.t_seconds, self._services.settings)
                    yield _line(await self._step(source))
                    done += 1
        except ServiceError as error:
            engine.metrics.count_rejection(error)
            yield _line(ErrorLine(problem=StreamProblem.from_error(error)))
        except Exception:
            log.exception("unhandled error")
            engine.metrics.count_rejection(ServiceError)
            yield _line(
                ErrorLine(problem=StreamProblem.from_error(ServiceError("the service failed on this video; its log has the cause")))
            )
        else:
            yield _line(EndLine(frames=done, people=len(self._identities)))

    async def _step(self, source: VideoFrame) -> FrameLine:
        """Estimate one frame, admitted like an image: a video is never more than one image in flight."""
        loop, timeout_s = asyncio.get_running_loop(), self._services.settings.request_timeout_ms / 1000
        started = loop.time()
        while True:
            if self._services.draining:
                raise Draining("the service is stopping; send the video again, to another instance")
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
        names = self._engine.pose.spec.keypoints.names
        return FrameLine.from_result(result, names, self._threshold, frame=source.index, pts_s=source.t_seconds)


def _line(line: BaseModel) -> str:
    return line.model_dump_json() + "\n"
