"""Watches one camera: frames to people, people to events, and both to everyone who wants them."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from posewire.cameras.broadcast import Broadcast, CameraEvents
from posewire.cameras.sources import Source
from posewire.engine.engine import Engine
from posewire.engine.video_session import PoseSession
from posewire.errors import (
    DeadlineExceeded,
    DecoderFailed,
    InferenceFailed,
    NotInstalled,
    Overloaded,
    PosewireError,
    ServiceError,
    TooLarge,
)
from posewire.imaging.draw import encode
from posewire.schemas.cameras import CameraEvent, CameraSpec, CameraStatus
from posewire.schemas.events import Event
from posewire.schemas.video import WatchLine
from posewire.sinks.feed import Feed
from posewire.sinks.opening import open_feed
from posewire.telemetry.metrics import CameraMetrics
from posewire.types import CameraState, Priority, UInt8Array
from posewire.video.camera import CameraFrame
from posewire.video.camera_process import CameraProcess

log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 1.0  # after the process has died; doubles up to the longest
_LONGEST_PAUSE_S: Final = 2.0

# A frame that waits for longer is of no use: the next one is there.
_DEADLINE_S: Final = 2.0

# Faults of the source that trying again does not mend.
_FINAL: Final = (NotInstalled, TooLarge)


class CameraWatcher:
    """One camera. `run` it as a task, cancel it to stop.

    Args:
        spec: the camera, with its secrets.
        engine: started.
        spools: folder of the messages that wait for sinks.
        metrics: of this camera.
        all_events: takes the events, beside those of other cameras.
    """

    def __init__(self, spec: CameraSpec, engine: Engine, spools: Path, metrics: CameraMetrics, all_events: CameraEvents) -> None:
        self.spec = spec
        self.broadcast = Broadcast()
        self._all_events = all_events
        self._engine = engine
        self._spools = spools
        self._metrics = metrics
        metrics.set_state("connecting" if spec.enabled else "off")
        self._state: CameraState = "connecting" if spec.enabled else "off"
        self._detail: str | None = None
        self._frames = self._dropped = self._failed = self._reconnects = 0
        self._last: float | None = None  # monotonic, of the last result
        self._people: int | None = None
        self._due = 0.0
        self._drawing = asyncio.Lock()
        self._drawn: tuple[int, UInt8Array] | None = None
        self._jpeg: tuple[int, bytes] | None = None

    @property
    def status(self) -> CameraStatus:
        """How it is doing."""
        return CameraStatus(
            state=self._state,
            detail=self._detail,
            frames=self._frames,
            dropped=self._dropped,
            failed=self._failed,
            reconnects=self._reconnects,
            age_s=None if self._last is None else round(time.monotonic() - self._last, 3),
            people=self._people,
        )

    def fail(self, detail: str) -> None:
        """Do not watch it, for a reason that is shown."""
        self._set("failed", detail)

    async def drawn(self) -> tuple[int, UInt8Array] | None:
        """Return the number of the newest frame and its pixels with skeletons, drawn once for all; None: there is no frame yet.

        The pixels are (H, W, 3) uint8 RGB, and must not be changed.
        """
        async with self._drawing:
            return await self._draw()

    async def jpeg(self) -> tuple[int, bytes] | None:
        """Return the number and the JPEG of the newest frame with its skeletons; None: there is no frame yet. It is drawn once for all."""
        async with self._drawing:
            drawn = await self._draw()
            if drawn is not None and (self._jpeg is None or self._jpeg[0] != drawn[0]):
                self._jpeg = drawn[0], await self._engine.offload(encode, drawn[1], "image/jpeg")
            return self._jpeg

    async def _draw(self) -> tuple[int, UInt8Array] | None:
        shown = self.broadcast.newest
        if shown is not None and (self._drawn is None or self._drawn[0] != shown.number):
            self._drawn = shown.number, await self._engine.offload(self._engine.draw_pixels, shown.frame, shown.result)
        return self._drawn

    async def run(self) -> None:
        """Watch until the end of a file, a fault that stays, or the cancellation."""
        if not self.spec.enabled:
            return
        try:
            spec, names = self.spec, self._engine.pose.spec.keypoints.names
            feed = await open_feed(spec.name, spec.rules, spec.sinks, names, self._spools, self._note)
        except PosewireError as error:
            self._set("failed", str(error))
            return
        try:
            await self._watch(feed)
        except _FINAL as error:
            self._set("failed", error.detail)
        except Exception:
            log.exception("a camera is not watched any more", extra={"camera": self.spec.name})
            self._set("failed", "the service failed on this camera; its log has the cause")
        finally:
            for event in await feed.close():
                self._tell(event)

    async def _watch(self, feed: Feed) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            before = self._frames
            try:
                if await self._play(feed):
                    self._set("ended", None)
                    return
            except _FINAL:
                raise
            except ServiceError as error:
                if Source.parse(self.spec.source).is_file and not isinstance(error, DecoderFailed):
                    self._set("failed", error.detail)
                    return
                self._lost(error.detail)
            pause_s = _FIRST_PAUSE_S if self._frames > before else min(2 * pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _play(self, feed: Feed) -> bool:
        """Take the frames of one process; return True at the end of a file."""
        engine, spec = self._engine, self.spec
        options = engine.settings.pose_options(spec.min_detection_score, spec.max_people)
        session = PoseSession(engine, options, detect_every=spec.detect_every, priority=Priority.STREAM)
        process = CameraProcess(spec.source, max_pixels=engine.settings.stream_max_pixels, report=self._lost)
        try:
            with engine.metrics.tracks() as report_tracks:
                while (newest := await process.newest()) is not None:
                    await self._take(newest, session, feed)
                    report_tracks(session.tracks)
                    await self._keep_rate()
        finally:
            await process.close()
        return True

    async def _take(self, newest: CameraFrame, session: PoseSession, feed: Feed) -> None:
        video = newest.video
        self._dropped += newest.dropped
        self._metrics.count_frames("dropped", newest.dropped)
        try:
            result = await session.step(video.frame, video.t_seconds, deadline=asyncio.get_running_loop().time() + _DEADLINE_S)
        except (DeadlineExceeded, InferenceFailed, Overloaded) as error:
            self._failed += 1
            self._metrics.count_frames("failed")
            self._set("live", f"a frame has no result: {error.detail}")
            return
        line = WatchLine.from_result(
            result,
            self._engine.pose.spec.keypoints.names,
            self.spec.min_keypoint_score,
            frame=video.index,
            pts_s=video.t_seconds,
            time=datetime.now(UTC).isoformat(),
            dropped=newest.dropped,
            age_ms=round(1000 * (time.monotonic() - newest.received_s), 1),
        )
        detail = None
        self.broadcast.show(video.frame, result)
        self.broadcast.send("result", line.model_dump_json())
        try:
            for event in await feed.step(result, line, video.t_seconds):
                self._tell(event)
        except PosewireError as error:  # the disk of a sink is full: the camera goes on
            detail = str(error)
        self._frames += 1
        self._metrics.count_frames("ok")
        self._last, self._people = time.monotonic(), len(result.people)
        self._set("live", detail)

    def _tell(self, event: Event) -> None:
        self.broadcast.send("event", event.model_dump_json())
        self._all_events.add(CameraEvent(camera=self.spec.name, time=datetime.now(UTC).isoformat(), message=event))

    async def _keep_rate(self) -> None:
        """Wait until the next frame may be taken."""
        if self.spec.fps is None:
            return
        now = time.monotonic()
        self._due = max(self._due, now - 1 / self.spec.fps) + 1 / self.spec.fps
        if self._due > now:
            await asyncio.sleep(self._due - now)

    def _lost(self, detail: str) -> None:
        self._reconnects += 1
        self._metrics.count_reconnect()
        self._set("waiting", detail)

    def _note(self, text: str) -> None:
        log.warning("a sink of a camera: %s", text, extra={"camera": self.spec.name})

    def _set(self, state: CameraState, detail: str | None) -> None:
        if state != self._state or (detail is not None and detail != self._detail):
            log.info("camera %s", state, extra={"camera": self.spec.name, "detail": detail})
        if state != self._state:
            self._metrics.set_state(state)
        self._state, self._detail = state, detail
