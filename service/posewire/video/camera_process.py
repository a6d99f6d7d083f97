"""Frames of a camera that a process of its own reads."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, Final, cast

from posewire.errors import DecoderFailed, Overloaded, ServiceError
from posewire.video.camera import CameraFrame
from posewire.video.messages import environment, read_frame, read_head

log = logging.getLogger(__name__)

_MAIN: Final = "import sys; from posewire.video.camera_decoder import watch; watch(int(sys.argv[1]))"


class CameraProcess:
    """Reads a camera in a process of its own, which connects again when the camera is lost. `close` it in any case.

    Args:
        source: an address, with user and password if it needs them, or a file.
        max_pixels: limit of pixels of one frame.
        report: takes a message each time the camera is lost.

    Raises:
        Overloaded: the system has no room for another process.
    """

    def __init__(self, source: str, *, max_pixels: int, report: Callable[[str], None]) -> None:
        self._max_pixels = max_pixels
        self._report = report
        try:
            self._process = subprocess.Popen(  # noqa: S603 - nothing of it is a caller's
                [sys.executable, "-c", _MAIN, str(max_pixels)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Overloaded(
                f"no process can be started for the camera: {error.strerror}; try again later", limit="processes", retry_after_s=10
            ) from None
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="posewire-camera")
        self._source: str | None = source

    async def newest(self) -> CameraFrame | None:
        """Wait for a frame that was not returned before; None: a recording is at its end.

        Raises:
            NotInstalled: PyAV is not installed.
            BadVideo, TooLarge: a file is damaged, or the frames are too large.
            DecoderFailed: the process has died.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._newest, asyncio.get_running_loop())

    async def close(self) -> None:
        """End the process."""
        self._process.kill()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._release)
        self._thread.shutdown()

    def _release(self) -> None:
        for pipe in (self._input, self._output):
            with suppress(BrokenPipeError):  # what was still to be written to a process that is gone
                pipe.close()
        self._process.wait()

    def _newest(self, loop: asyncio.AbstractEventLoop) -> CameraFrame | None:
        try:
            if self._source is not None:
                self._input.write(self._source.encode() + b"\n")
                self._source = None
            self._input.write(b"n")
            self._input.flush()
        except BrokenPipeError:
            raise self._died() from None
        try:
            while True:
                head = read_head(self._output)
                if "lost" in head:
                    loop.call_soon_threadsafe(self._report, str(head["lost"]))
                elif "end" in head:
                    return None
                else:
                    video = read_frame(self._output, head, self._max_pixels)
                    return CameraFrame(video, int(head["dropped"]), float(head["received_s"]))
        except (ValueError, KeyError, TypeError):
            raise self._died() from None

    def _died(self) -> ServiceError:
        self._process.kill()
        log.error("the process that reads a camera has died", extra={"exit_code": self._process.wait()})
        return DecoderFailed("the process that reads the camera has died")
