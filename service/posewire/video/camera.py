"""Read the newest frame of a camera, or of a file that plays like one; a lost camera is connected again."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from posewire.errors import BadVideo, ServiceError
from posewire.video.reading import VideoFrame, VideoInfo, VideoReader

_TIMEOUT_S = 10.0  # for an answer or a frame
_FIRST_PAUSE_S = 1.0  # before the first attempt to reconnect; it doubles with each attempt until a frame arrives
_LONGEST_PAUSE_S = 4.0  # a camera that is back has frames again within five seconds


class Camera:
    """An asynchronous context that reads frames on its own thread and keeps only the newest one.

    It connects when it is entered. Frames count from the first call of `newest` on: a file begins to play then, and what a camera has
    sent before is left out. So models may be loaded in between.

    Args:
        source: an RTSP or HTTP address, or a file, which plays at its own frame rate and ends.
        max_pixels: of one frame.
        report: is called on the camera's thread with a message when a connection is lost.
        keep_trying: try the first connection again as well, and do not wait for it on entering.

    Raises (on entering, without `keep_trying`):
        NotInstalled, BadVideo, TooLarge: as `VideoReader`. The first connection is tried only once.
    """

    def __init__(self, source: str, *, max_pixels: int, report: Callable[[str], None], keep_trying: bool = False) -> None:
        self._source = source
        self._max_pixels = max_pixels
        self._report = report
        self._keep_trying = keep_trying
        self._is_file = Path(source).is_file()
        self._stop = threading.Event()
        self._wanted = threading.Event()  # `newest` was called
        self._received = asyncio.Event()  # a frame or the end
        self._started = 0.0  # time of the first frame that counts, or of the start of a file, seconds, monotonic
        self._read_frames = 0  # of all connections
        self._frames = 0  # of them that count
        self._newest: VideoFrame | None = None
        self._dropped = 0
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

    async def newest(self) -> tuple[VideoFrame, int] | None:
        """Wait for a frame that was not returned before; return it, and the number of frames dropped before it.

        Returns None at the end of a file. Times are seconds since the first frame: our clock for a camera, its own for a file.

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
        frame, dropped = self._newest, self._dropped
        self._newest, self._dropped = None, 0
        return frame, dropped

    def _read(self, loop: asyncio.AbstractEventLoop, connected: "asyncio.Future[None]") -> None:
        """Connect, read, and connect again; runs on the camera's thread."""
        pause = _FIRST_PAUSE_S
        while not self._stop.is_set():
            before, problem = self._read_frames, None
            try:
                self._play(loop, connected)
            except ServiceError as error:
                problem = error
            if self._is_file or not (self._read_frames or self._keep_trying) or not isinstance(problem, BadVideo | None):
                _call(loop, self._finish, connected, problem)
                return
            pause = _FIRST_PAUSE_S if self._read_frames > before else min(2 * pause, _LONGEST_PAUSE_S)
            self._report(f"{address_of(self._source)}: {problem.detail if problem else 'the camera has stopped'}; again in {pause:g} s")
            self._stop.wait(pause)

    def _play(self, loop: asyncio.AbstractEventLoop, connected: "asyncio.Future[None]") -> None:
        """Read one connection to its end."""
        with VideoReader(self._source, camera=not self._is_file, max_pixels=self._max_pixels, timeout_s=_TIMEOUT_S) as reader:
            if not self._read_frames:
                self.info = reader.info
                _call(loop, connected.set_result, None)
            if self._is_file:
                self._wanted.wait()
                self._started = time.monotonic()
            for read in reader:
                self._read_frames += 1
                if self._is_file:
                    self._stop.wait(max(0.0, self._started + read.t_seconds - time.monotonic()))
                if self._stop.is_set():
                    return
                if not self._wanted.is_set():
                    continue
                self._started = self._started or time.monotonic()
                t = read.t_seconds if self._is_file else time.monotonic() - self._started
                _call(loop, self._keep, VideoFrame(self._frames, t, read.frame))
                self._frames += 1

    def _keep(self, frame: VideoFrame) -> None:
        self._dropped += self._newest is not None
        self._newest = frame
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
