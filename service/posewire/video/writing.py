"""Write frames into an H.264 MP4 that keeps their times."""

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posewire.errors import PosewireError
from posewire.files import create_temporary
from posewire.types import UInt8Array
from posewire.video.reading import import_av

_TICKS = 90_000  # per second; a frame of every common frame rate lasts a whole number of them
_OPTIONS = {"preset": "veryfast", "crf": "20"}


class VideoWriter:
    """A writer of one MP4. It writes a hidden file beside the target; `finish` renames it, `discard` removes it.

    Args:
        target: path of the finished file.
        rate: frames per second, for players; the times of the frames do not depend on it.

    Raises (also from `write` and `finish`):
        NotInstalled: PyAV is not installed.
        PosewireError: the file cannot be written; the message says why. The file is removed.
    """

    def __init__(self, target: Path, rate: float) -> None:
        self._av = import_av()
        self._target = target
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: Any = None
        self._size: tuple[int, int] | None = None  # width and height, pixels
        try:
            handle, self._temporary = create_temporary(target)
        except OSError as error:
            raise PosewireError(f"{target} cannot be written: {error.strerror}") from None
        os.close(handle)
        self._container = self._av.open(str(self._temporary), "w", format="mp4", options={"movflags": "+faststart"})

    def write(self, pixels: UInt8Array, t_seconds: float) -> None:
        """Add a frame, (H, W, 3) uint8 RGB; a frame of another size than the first is scaled to it.

        H.264 needs even sides: the last row or column of an odd side is repeated.
        """
        try:
            if self._stream is None:
                self._begin(pixels)
            frame = self._av.VideoFrame.from_ndarray(self._fit(pixels), format="rgb24")
            frame.pts, frame.time_base = round(t_seconds * _TICKS), Fraction(1, _TICKS)
            self._container.mux(self._stream.encode(frame))
        except (OSError, self._av.FFmpegError) as error:
            self.discard()
            raise self._failure(error) from None

    def finish(self, target: Path | None = None) -> Path:
        """Complete the file and rename it to `target`, or to another name in the same folder."""
        target = target or self._target
        try:
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            self._temporary.replace(target)
        except (OSError, self._av.FFmpegError) as error:
            self.discard()
            raise self._failure(error) from None
        return target

    def discard(self) -> None:
        """Remove the unfinished file; does nothing after `finish`."""
        with contextlib.suppress(OSError, self._av.FFmpegError):  # the file is removed anyway
            self._container.close()
        self._temporary.unlink(missing_ok=True)

    def _begin(self, pixels: UInt8Array) -> None:
        height, width = (side + side % 2 for side in pixels.shape[:2])
        self._size = (width, height)
        stream = self._container.add_stream(
            "libx264" if "libx264" in self._av.codecs_available else "h264", rate=self._rate, options=_OPTIONS
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        self._stream = stream

    def _fit(self, pixels: UInt8Array) -> UInt8Array:
        height, width = pixels.shape[:2]
        padded = cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE) if height % 2 or width % 2 else pixels
        if padded.shape[1::-1] != self._size:
            padded = cv2.resize(padded, self._size)
        return np.asarray(padded, np.uint8)

    def _failure(self, error: Exception) -> PosewireError:
        return PosewireError(f"{self._target} cannot be written: {getattr(error, 'strerror', None) or error}")
