"""Frames of a video that a process of its own decodes."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Self, cast

from posewire.errors import DecoderFailed, NotInstalled, Overloaded, ServiceError, TooLarge
from posewire.video.messages import environment, read_frame, read_head
from posewire.video.reading import VideoFrame, VideoInfo

log = logging.getLogger(__name__)

_MAIN = "import sys; from posewire.video.decoder import decode; a = sys.argv; decode(int(a[1]), int(a[2]), int(a[3]), float(a[4]))"
_END_S = 10.0  # in which a process that has closed its output ends


class DecodingProcess:
    """An iterator over the frames of an untrusted file, decoded in a process with limits of memory and CPU. `close` it in any case.

    All but `close` block, and are called on one thread at a time. `close` may be called on any thread at any time.

    Args:
        file: the file, from its beginning; it may have no name. It may be closed as soon as this has returned.
        max_pixels: limit of pixels of one frame.
        max_frames: limit of frames.
        max_seconds: limit of seconds.

    Raises:
        Overloaded: the system has no room for another process.
        NotInstalled: the system is Windows, where a process gets no open file by its number.
    """

    def __init__(self, file: IO[bytes], *, max_pixels: int, max_frames: int, max_seconds: float) -> None:
        if os.name == "nt":
            raise NotInstalled("videos are not decoded on Windows: run the service on Linux or macOS")
        self._max_pixels = max_pixels
        self._closed = False
        self._reading = threading.Lock()
        command = [sys.executable, "-c", _MAIN, str(file.fileno()), str(max_pixels), str(max_frames), str(max_seconds)]
        pipe = subprocess.PIPE
        try:
            # In a session of its own: only the service receives Ctrl-C of the terminal.
            self._process = subprocess.Popen(  # noqa: S603 - nothing of it is a caller's
                command, stdin=pipe, stdout=pipe, env=environment(), pass_fds=(file.fileno(),), start_new_session=True
            )
        except OSError as error:
            raise Overloaded(
                f"no process can be started for the video: {error.strerror}; try again later", limit="processes", retry_after_s=10
            ) from None
        self._output = cast("IO[bytes]", self._process.stdout)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def start(self) -> VideoInfo:
        """Wait for the beginning of the video, and return its properties.

        Raises:
            BadVideo, TooLarge, NotInstalled: as `VideoReader` and `measure`.
            TooLarge: decoding takes more memory or CPU time than a video may.
            DecoderFailed: the process has died.
        """
        with self._reading:
            try:
                return VideoInfo(**read_head(self._output)["info"])
            except (ValueError, KeyError, TypeError):
                raise self._failure() from None

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        """Return the next frame; raises as `start`."""
        with self._reading:
            if self._closed:
                raise StopIteration
            try:
                frame = self._frame()
            except ServiceError:
                if self._closed:  # while it was read
                    raise StopIteration from None
                raise
            if frame is None:
                raise StopIteration
            return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; who waits for a frame gets the end of the video."""
        self._closed = True
        self._process.kill()
        with self._reading:
            self._output.close()
            cast("IO[bytes]", self._process.stdin).close()
            self._process.wait()

    def _frame(self) -> VideoFrame | None:
        """Return the next frame, or None at the end of the video; raise the error that the process reports."""
        try:
            head = read_head(self._output)
            return None if "end" in head else read_frame(self._output, head, self._max_pixels)
        except ValueError:
            raise self._failure() from None

    def _failure(self) -> ServiceError:
        """Return the error for a process that has died, or that says what it should not; it is ended."""
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if -code == getattr(signal, "SIGXCPU", None):
            return TooLarge("the video takes more CPU time to decode than a video may; convert it, to H.264 for example")
        if not self._closed:
            log.error("the process that decodes a video has died", extra={"exit_code": code})
        return DecoderFailed("the decoder has crashed on this video; other videos are not affected; convert it, to H.264 for example")
