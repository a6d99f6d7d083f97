"""Decode videos and cameras into upright RGB frames with their times."""

import errno
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from posewire.errors import BadVideo, NotInstalled, TooLarge
from posewire.types import Frame, UInt8Array

if TYPE_CHECKING:
    from av.container import InputContainer

# The formats allowed for untrusted files. Playlists are excluded: they name other files and addresses, which FFmpeg would open.
CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "m4v", "h264", "hevc")
KINDS = "MP4, QuickTime, WebM, Matroska, AVI, MPEG, FLV, WMV or Ogg"

SUFFIXES = frozenset({
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".ts", ".m2ts", ".mts", ".flv", ".wmv", ".ogv", ".h264", ".hevc"),
})  # fmt: skip

_DEFAULT_RATE = 25.0  # frames per second, if a file does not state it
_MIN_STEP_S = 1e-3  # the times of frames always rise, even if those in the file do not


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One frame of a video."""

    index: int  # from 0
    t_seconds: float  # since the first frame, by the video's own clock
    frame: Frame


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The properties of a video, as its header states them."""

    width: int  # pixels, upright
    height: int  # pixels, upright
    rate: float  # frames per second, on average
    frames: int | None  # approximate; None: not known before the end
    duration_s: float | None


class VideoReader:
    """A context and an iterator over the frames of one video, in order. `close` may be called on any thread.

    Args:
        source: a file or an address.
        camera: True if the source is trusted: any address and any format. False for an untrusted file.
        max_pixels: of one frame.
        timeout_s: for an address to answer.

    Raises:
        NotInstalled: PyAV is not installed.
        BadVideo: the source is not a video, has no video stream, is empty or damaged; also while iterating.
        TooLarge: a frame has too many pixels; also while iterating.
    """

    def __init__(self, source: str | Path, *, camera: bool = False, max_pixels: int, timeout_s: float | None = None) -> None:
        self._av = import_av()
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._closed = False
        self._container = self._open(source, camera, timeout_s)
        try:
            self._stream = self._video_stream()
            self._frames = self._decode()
            self._first: VideoFrame | None = next(self._frames, None)
            if self._first is None:
                raise BadVideo("the video has no frame that can be decoded; it is empty or cut short")
            self.info = self._describe(self._first.frame)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; waits for a frame that is being decoded."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._container.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        """Return the next frame; takes milliseconds for a file, and blocks until a frame arrives for a camera."""
        with self._lock:
            if self._closed:
                raise StopIteration
            first, self._first = self._first, None
            return first or next(self._frames)

    def _open(self, source: str | Path, camera: bool, timeout_s: float | None) -> "InputContainer":
        if camera:
            options = {"rtsp_transport": "tcp", "fflags": "nobuffer"}
        else:
            options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
        try:
            container: InputContainer = self._av.open(str(source), options=options, timeout=timeout_s)
        except (self._av.error.InvalidDataError, self._av.error.EOFError):
            raise BadVideo(f"the video is damaged, cut short or no video; {KINDS} can be read") from None
        except self._av.error.ArgumentError:  # raised for a format outside of `format_whitelist`
            raise BadVideo(f"the video's format is not supported: send {KINDS}") from None
        except (OSError, self._av.FFmpegError) as error:
            if error.errno == errno.EIO and not camera:  # the header promises more data than there is
                raise BadVideo(f"the video is damaged or cut short; {KINDS} can be read") from None
            raise BadVideo(f"the video cannot be opened: {error.strerror or error}") from None
        return container

    def _video_stream(self) -> Any:
        streams = [s for s in self._container.streams.video if not s.disposition & self._av.stream.Disposition.attached_pic]
        if not streams:
            others = ", ".join(sorted({s.type for s in self._container.streams})) or "nothing"
            raise BadVideo(f"the video has no picture: only {others}")
        stream = streams[0]
        if stream.codec_context is None:
            raise BadVideo("the video has a codec that this build of FFmpeg cannot decode")
        self._check_size(stream.width, stream.height)
        stream.codec_context.thread_count = 1  # decoding a frame is much faster than the models
        stream.codec_context.options = {"max_pixels": str(self._max_pixels)}
        return stream

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise TooLarge(f"the video has frames of {width} x {height} px; at most {self._max_pixels:,} pixels are taken")

    def _decode(self) -> Iterator[VideoFrame]:
        rate = float(self._stream.average_rate or 0) or _DEFAULT_RATE
        index, start, last = 0, None, 0.0
        try:
            for decoded in self._container.decode(self._stream):
                self._check_size(decoded.width, decoded.height)
                at = decoded.time
                start = at if start is None else start
                t = last + 1 / rate if at is None or start is None else at - start
                last = max(t, last + _MIN_STEP_S) if index else 0.0
                yield VideoFrame(index, last, Frame(_upright(decoded.to_ndarray(format="rgb24"), decoded.rotation)))
                index += 1
        except (OSError, self._av.FFmpegError) as error:
            raise BadVideo(
                f"the video is damaged after {index} frames, at {last:.2f} s: {(error.strerror or str(error)).lower()}"
            ) from None

    def _describe(self, first: Frame) -> VideoInfo:
        stream, container = self._stream, self._container
        rate = float(stream.average_rate or 0) or _DEFAULT_RATE
        duration = container.duration / self._av.time_base if container.duration else None
        frames = stream.frames or (round(duration * rate) if duration else None)
        return VideoInfo(first.width, first.height, rate, frames or None, duration)


def import_av() -> Any:
    """Return the module of PyAV.

    Raises:
        NotInstalled: PyAV is not installed; the message says how to install it.
    """
    try:
        import av  # noqa: PLC0415 - an extra
        import av.error  # noqa: PLC0415
    except ImportError:
        raise NotInstalled("videos need PyAV, which is not installed here: pip install 'posewire[video]'") from None
    av.logging.set_level(None)  # problems are reported by BadVideo
    return av


def _upright(pixels: UInt8Array, rotation: int) -> UInt8Array:
    """Rotate a frame by its display matrix; `rotation` is in degrees counter-clockwise."""
    return np.ascontiguousarray(np.rot90(pixels, round(rotation / 90) % 4))
