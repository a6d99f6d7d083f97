"""Read the newest frame of a camera, or of a file that plays like one; a lost camera is connected again."""

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from posewire.errors import BadVideo, ServiceError
from posewire.video.reading import VideoFrame, VideoInfo, VideoReader
from posewire.video.sources import SourceError, is_path

_FIRST_PAUSE_S = 1.0  # before the first attempt to reconnect; it doubles with each attempt until a frame arrives
_LONGEST_PAUSE_S = 2.0  # a camera that is back has frames again within five seconds
_REJECTED_PAUSE_S = 60.0  # many cameras lock an account after a few attempts with a wrong password


@dataclass(frozen=True, slots=True, eq=False)
class CameraFrame:
    """The newest frame of a camera."""

    video: VideoFrame  # `index` counts the frames that were read; `t_seconds` is our clock for a camera, its own for a recording
    dropped: int  # frames that were left out before it
    received_s: float  # when it was decoded: `time.monotonic()`, which all processes of a machine share


class Camera:
    """An asynchronous context that reads frames on its own thread and keeps only the newest one.

    It connects when it is entered. Frames count from the first call of `newest` on: a file begins to play then, and what a camera has
    sent before is left out. So models may be loaded in between.

    Args:
        source: an RTSP or HTTP address, a device, or a file. A recording (a file, or an address of one) plays at its own rate and ends.
        max_pixels: of one frame.
        report: is called on the camera's thread with a message when a connection is lost.
        keep_trying: try the first connection again as well, and do not wait for it on entering.

    Raises (on entering, without `keep_trying`):
        NotInstalled, BadVideo, TooLarge: as `VideoReader`; BadVideo also if a camera does not answer. The first connection is tried once.
    """

    def __init__(self, source: str, *, max_pixels: int, report: Callable[[str], None], keep_trying: bool = False) -> None:
        self._source = source
        self._max_pixels = max_pixels
        self._report = report
        self._keep_trying = keep_trying
        self._is_file = is_path(source)
        self._is_recording = self._is_file
        self._stop = threading.Event()
        self._wanted = threading.Event()  # `newest` was called
        self._received = asyncio.Event()  # a frame or the end
        self._started = 0.0  # time of the first frame that counts, or of the start of a file, seconds, monotonic
        self._read_frames = 0  # of all connections
        self._frames = 0  # of them that count
        self._newest: CameraFrame | None = None
        self._end: ServiceError | None = None
        self._ended = False
        self.info: VideoInfo

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[None] = loop.create_future()
        # A daemon: a silent camera must not keep the process alive.
        threading.Thread(target=self._read, args=(loop, connected), name="posewire-camera", daemon=True).start()
        if not self._keep_trying:
            await connected
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._wanted.set()  # the thread may wait for it

    async def newest(self) -> CameraFrame | None:
        """Wait for a frame that was not returned before.

        Returns None at the end of a recording. Times are seconds since the first frame: our clock for a camera, its own for a recording.

        Raises:
            BadVideo, TooLarge: a file is damaged, or the frames are too large.
            NotInstalled: PyAV is not installed.
        """
        self._wanted.set()
        while self._newest is None:
            if self._ended:
                if self._end is not None:
                    raise self._end
                return None
            self._received.clear()
            await self._received.wait()
        newest, self._newest = self._newest, None
        return newest

    def _read(self, loop: asyncio.AbstractEventLoop, connected: "asyncio.Future[None]") -> None:
        """Connect, read, and connect again; runs on the camera's thread."""
        pause = _FIRST_PAUSE_S
        while not self._stop.is_set():
            before, rejected = self._read_frames, False
            problem: ServiceError | None = None
            try:
                self._play(loop, connected)
            except SourceError as error:
                problem, rejected = BadVideo(error.detail), error.rejected
            except ServiceError as error:
                problem = error
            gc.collect()  # PyAV's containers and streams refer to each other: the decoder's tens of megabytes would stay until later
            is_over = self._is_recording and (self._is_file or problem is None)
            if is_over or not (self._read_frames or self._keep_trying) or not isinstance(problem, BadVideo | None):
                _call(loop, self._finish, connected, problem)
                return
            pause = _FIRST_PAUSE_S if self._read_frames > before else min(2 * pause, _LONGEST_PAUSE_S)
            wait = _REJECTED_PAUSE_S if rejected else pause
            self._report(f"{address_of(self._source)}: {problem.detail if problem else 'the camera has stopped'}; again in {wait:g} s")
            self._stop.wait(wait)

    def _play(self, loop: asyncio.AbstractEventLoop, connected: "asyncio.Future[None]") -> None:
        """Read one connection to its end."""
        with VideoReader(self._source, camera=not self._is_file, max_pixels=self._max_pixels) as reader:
            if not self._is_file and reader.is_recording and self._frames and not self._is_recording:
                raise SourceError("the camera has ended its playlist")  # which would be played again
            self._is_recording = self._is_file or reader.is_recording
            if not self._read_frames:
                self.info = reader.info
                _call(loop, connected.set_result, None)
            if self._is_recording:
                self._wanted.wait()
                self._started = time.monotonic()
            self._keep_newest(loop, reader)

    def _keep_newest(self, loop: asyncio.AbstractEventLoop, reader: VideoReader) -> None:
        began: float | None = None  # when the first frame was shown, or would have been for the later ones to be in time
        for read in reader:
            self._read_frames += 1
            if self._is_recording:
                self._stop.wait(max(0.0, self._started + read.t_seconds - time.monotonic()))
            elif reader.is_playlist:  # a part has seconds of frames, and all but the newest would be dropped
                now = time.monotonic()
                began = now if began is None else max(began, now - read.t_seconds)
                self._stop.wait(max(0.0, began + read.t_seconds - now))
            if self._stop.is_set():
                return
            if not self._wanted.is_set():
                continue
            now = time.monotonic()
            self._started = self._started or now
            t = read.t_seconds if self._is_recording else now - self._started
            _call(loop, self._keep, VideoFrame(self._frames, t, read.frame), now)
            self._frames += 1

    def _keep(self, frame: VideoFrame, received_s: float) -> None:
        dropped = 0 if self._newest is None else self._newest.dropped + 1
        self._newest = CameraFrame(frame, dropped, received_s)
        self._received.set()

    def _finish(self, connected: "asyncio.Future[None]", problem: ServiceError | None) -> None:
        self._ended, self._end = True, problem
        self._received.set()
        if not connected.done() and not self._keep_trying:
            connected.set_exception(problem or BadVideo("the video has no frame"))


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits for the call
        loop.call_soon_threadsafe(function, *arguments)


def address_of(source: str) -> str:
    """Return a source without the user name and password that an address may contain."""
    try:
        parts = urlsplit(source)
        host = parts.hostname
    except ValueError:
        return "the camera"
    if not parts.scheme or host is None:
        return source
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
