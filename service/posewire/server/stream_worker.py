"""The worker of one stream: it answers the frames one by one."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from opentelemetry.trace import Span

from posewire.engine.engine import Engine
from posewire.engine.video_session import PoseSession
from posewire.errors import BadPicture, DeadlineExceeded, ServiceError, TimedOut, TooLarge
from posewire.imaging.decode import decode
from posewire.schemas.pose import ModelNames
from posewire.schemas.stream import ErrorMessage, ResultMessage, StartedMessage, StreamLimits, StreamOptions, StreamProblem
from posewire.schemas.webrtc import VideoResultMessage
from posewire.server.latest_frame import FrameSource, ReceivedFrame
from posewire.telemetry import tracing
from posewire.telemetry.logs import request_id_var
from posewire.telemetry.metrics import FrameLoss
from posewire.types import Frame, PoseResult, Priority

# A client that sends so many in a row does not send images.
_MAX_BAD_FRAMES = 10


class StreamWorker:
    """Takes the newest frame of a stream, one at a time, and sends an answer for each: a result, or an error.

    Args:
        engine: started.
        frames: of this stream.
        start: the options that the client chose.
        headers: of the handshake.
        show: takes each frame and its people, to draw them; None: nobody looks.
    """

    def __init__(
        self,
        engine: Engine,
        frames: FrameSource,
        start: StreamOptions,
        headers: Mapping[str, str],
        show: Callable[[Frame, PoseResult], None] | None = None,
    ) -> None:
        settings = engine.settings
        self._show = show
        self._engine = engine
        self._frames = frames
        self._start = start
        self._headers = headers
        self._deadline_s = settings.stream_deadline_ms / 1000
        options = settings.pose_options(start.min_detection_score, start.max_people)
        self._session = PoseSession(engine, options, track=start.track, smooth=start.smooth, priority=Priority.STREAM)
        self._bad_frames = 0  # in a row

    async def run(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Answer frames until the buffer or the stream ends.

        Args:
            send: sends a message to the client; waits while the network takes no more.

        Raises:
            TimedOut: the client does not read, or does not acknowledge.
            TooLarge: a frame has too many pixels.
            BadPicture: too many frames in a row cannot be decoded.
            ServiceError: the reason why the buffer has ended.
        """
        send_timeout_s = self._engine.settings.stream_idle_s
        with self._engine.metrics.tracks() as report_tracks:
            while True:
                frame = await self._frames.take()
                with tracing.frame_span(frame.seq, frame.at, self._headers) as span:
                    answer = await self._answer(frame, span)
                report_tracks(self._session.tracks)
                try:
                    async with asyncio.timeout(send_timeout_s):
                        await send(answer)
                except TimeoutError:
                    raise TimedOut(f"nothing was read for {send_timeout_s:g} seconds") from None

    async def _answer(self, frame: ReceivedFrame, span: Span) -> str:
        """Return the message for one frame, or raise the error that ends the stream."""
        metrics = self._engine.metrics
        try:
            result = await self._estimate(frame)
        except ServiceError as error:
            metrics.count_dropped_frame(_cause(error))
            tracing.fail_span(span, error.slug, error.status)
            self._tolerate(error)
            dropped, age_s = self._frames.answered(frame.seq), _age(frame)
            problem = StreamProblem.from_error(error)
            return ErrorMessage(seq=frame.seq, dropped=dropped, age_ms=_ms(age_s), problem=problem).model_dump_json()
        self._bad_frames = 0
        dropped, age_s = self._frames.answered(frame.seq), _age(frame)
        metrics.observe_answered_frame(age_s, detected=result.timings.detect > 0, trace_id=tracing.sampled_trace_id(span))
        names = self._engine.pose.spec.keypoints.names
        of = ResultMessage.from_result if frame.pts_s is None else partial(VideoResultMessage.from_result, pts_s=frame.pts_s)
        with metrics.time_stage("encode"), tracing.stage("encode"):
            return of(result, names, self._start.min_keypoint_score, seq=frame.seq, dropped=dropped, age_ms=_ms(age_s)).model_dump_json()

    async def _estimate(self, frame: ReceivedFrame) -> PoseResult:
        deadline = asyncio.get_running_loop().time() + self._deadline_s - _age(frame)
        started = time.perf_counter()
        decoded = frame.data if isinstance(frame.data, Frame) else await self._decode(frame.data, deadline)
        decode_s = time.perf_counter() - started
        result = await self._session.step(decoded, frame.at, deadline=deadline)
        if _age(frame) > self._deadline_s:  # the event loop was busy
            raise DeadlineExceeded("the frame was too old before its result could be sent")
        if self._show:
            self._show(decoded, result)
        return replace(result, timings=replace(result.timings, decode=decode_s, total=time.perf_counter() - started))

    async def _decode(self, data: bytes, deadline: float) -> Frame:
        engine, settings = self._engine, self._engine.settings
        try:
            async with asyncio.timeout_at(deadline):
                with engine.metrics.time_stage("decode"), tracing.stage("decode"):
                    return await engine.offload(decode, data, max_bytes=settings.stream_max_bytes, max_pixels=settings.stream_max_pixels)
        except TimeoutError:
            raise DeadlineExceeded("the frame was too old before it was decoded") from None

    def _tolerate(self, error: ServiceError) -> None:
        """Raise an error that must end the stream: a frame is too large, or too many in a row cannot be decoded."""
        if isinstance(error, TooLarge):
            raise error
        self._bad_frames = self._bad_frames + 1 if isinstance(error, BadPicture) else 0
        if self._bad_frames == _MAX_BAD_FRAMES:
            raise BadPicture(f"{_MAX_BAD_FRAMES} frames in a row cannot be decoded; the last: {error.detail}")


def started_message(engine: Engine, start: StreamOptions) -> StartedMessage:
    """Return the first message of the service on a stream with these options."""
    settings, keypoints = engine.settings, engine.pose.spec.keypoints
    return StartedMessage(
        request_id=request_id_var.get() or "",
        model=ModelNames(detector=engine.detector.spec.name, pose=engine.pose.spec.name),
        keypoints=list(keypoints.names),
        skeleton=list(keypoints.skeleton),
        limits=StreamLimits(
            max_bytes=settings.stream_max_bytes,
            max_pixels=settings.stream_max_pixels,
            max_people=settings.pose_options(max_people=start.max_people).max_people,
            credits=settings.stream_credits,
            deadline_ms=settings.stream_deadline_ms,
            idle_s=settings.stream_idle_s,
        ),
    )


def _age(frame: ReceivedFrame) -> float:
    return time.monotonic() - frame.at  # uvloop updates its own clock only once an iteration


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _cause(error: ServiceError) -> FrameLoss:
    if isinstance(error, BadPicture | TooLarge):
        return "bad"
    return "late" if isinstance(error, DeadlineExceeded) else "failed"
