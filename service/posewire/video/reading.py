"""Decode videos and cameras into upright RGB frames with their times."""

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from posewire.errors import BadVideo, NotInstalled, TooLarge
from posewire.types import Frame
from posewire.video.clock import FrameClock
from posewire.video.sources import SILENCE_S, is_recording, lost, open_camera, silence
from posewire.video.upright import square_size, turn_of, turned

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
_OUT_OF_MEMORY = "the video needs more memory to decode than there is for it"


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One frame of a video."""

    index: int  # from 0
    t_seconds: float  # since the first frame, by the video's own clock as `FrameClock` corrects it
    frame: Frame


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The properties of a video, as its header states them."""

    width: int  # pixels, of the upright frame with square pixels
    height: int  # pixels, of the upright frame with square pixels
    rate: float  # frames per second, on average
    frames: int | None  # approximate; None: not known before the end
    duration_s: float | None  # of its frames, whatever its sound lasts


@dataclass(frozen=True, slots=True)
class Length:
    """The length of a video, by its frames."""

    frames: int
    seconds: float


class VideoReader:
    """A context and an iterator over the frames of one video, in order. `close` may be called on any thread.

    Args:
        source: a file, an address or a device.
        camera: True if the source is trusted: any address and any format. False for an untrusted file.
        max_pixels: of one frame.

    Raises:
        NotInstalled: PyAV is not installed.
        BadVideo: the source is not a video, has no video stream, is empty or damaged; also while iterating.
        SourceError: a camera does not answer, rejects the caller, or sends no more frames; also while iterating.
        TooLarge: a frame has too many pixels; also while iterating.
    """

    def __init__(self, source: str | Path, *, camera: bool = False, max_pixels: int) -> None:
        self._av = import_av()
        self._source = str(source)
        self._camera = camera
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._closed = False
        self._container = _open_camera(self._av, self._source) if camera else _open(self._av, source)
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

    @property
    def is_recording(self) -> bool:
        """True if a camera's address leads to something that has an end, such as a complete playlist."""
        return is_recording(self._source, self._container)

    @property
    def is_playlist(self) -> bool:
        """True if the frames come in bursts, as the parts of a playlist (HLS) do."""
        return self._container.format.name == "hls"

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

    def _video_stream(self) -> Any:
        stream = _first_video(self._av, self._container)
        if stream.codec_context is None:
            raise BadVideo("the video has a codec that this build of FFmpeg cannot decode")
        self._check_size(*square_size(stream.width, stream.height, stream.sample_aspect_ratio))
        stream.codec_context.thread_count = 1  # decoding a frame is much faster than the models
        stream.codec_context.options = {"max_pixels": str(self._max_pixels)}
        return stream

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise TooLarge(f"the video has frames of {width} x {height} px; at most {self._max_pixels:,} pixels are taken")

    def _decode(self) -> Iterator[VideoFrame]:
        clock, index = FrameClock(_rate_of(self._stream)), 0
        try:
            for decoded in self._watched() if self._camera else self._container.decode(self._stream):
                yield VideoFrame(index, clock.tick(decoded.time), self._upright(decoded))
                index += 1
        except MemoryError:
            raise TooLarge(_OUT_OF_MEMORY) from None
        except (OSError, self._av.FFmpegError) as error:
            if error.errno == errno.EAGAIN:  # a file never has to wait: there was no memory for a thread of a codec
                raise TooLarge(_OUT_OF_MEMORY) from None
            raise BadVideo(
                f"the video is damaged after {index} frames, at {clock.seconds:.2f} s: {(error.strerror or str(error)).lower()}"
            ) from None

    def _watched(self) -> Iterator[Any]:
        """Yield the frames of a camera. What cannot be decoded is left out: packets are lost on the way."""
        last_s = time.monotonic()
        try:
            for packet in self._container.demux():
                # Sound may still come; and at the end of its patience FFmpeg gives out a last frame that it has kept.
                if time.monotonic() - last_s >= SILENCE_S:
                    raise silence()
                if packet.stream.index == self._stream.index:
                    with suppress(self._av.error.InvalidDataError):
                        for frame in packet.decode():
                            last_s = time.monotonic()
                            yield frame
                            last_s = time.monotonic()  # the reader may have waited
        except (OSError, self._av.FFmpegError) as error:
            raise lost(self._av, error, self._source, time.monotonic() - last_s) from None

    def _upright(self, decoded: Any) -> Frame:
        """Return a frame in RGB, of square pixels, turned and mirrored as its display matrix says."""
        width, height = square_size(decoded.width, decoded.height, self._stream.sample_aspect_ratio)
        self._check_size(width, height)
        pixels = decoded.to_ndarray(format="rgb24", width=width, height=height, threads=1)
        matrix = decoded.side_data.get("DISPLAYMATRIX")
        return Frame(pixels if matrix is None else turned(pixels, turn_of(bytes(matrix))))

    def _describe(self, first: Frame) -> VideoInfo:
        stream, container = self._stream, self._container
        rate = float(stream.average_rate or 0) or _DEFAULT_RATE
        duration = None
        if stream.duration:
            duration = float(stream.duration * stream.time_base)
        elif container.duration and len(container.streams) == 1:  # else it may be that of the sound
            duration = container.duration / self._av.time_base
        frames = stream.frames or (round(duration * rate) if duration else None)
        return VideoInfo(first.width, first.height, rate, frames or None, duration)


def measure(source: str | Path, *, max_frames: int, max_seconds: float) -> Length:
    """Return the length of a file by its frames, from their times in the order of decoding. Nothing is decoded.

    Data that is damaged ends the measurement; decoding reports what is wrong with it.

    Args:
        source: an untrusted file.
        max_frames: limit of frames.
        max_seconds: limit of the sum of their distances, seconds.

    Raises:
        NotInstalled, BadVideo: as `VideoReader`.
        TooLarge: the video is longer than a limit; it is not read further than to the limit.
    """
    av = import_av()
    with _open(av, source) as container:
        stream = _first_video(av, container)
        clock, frames = FrameClock(_rate_of(stream)), 0
        try:
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:  # the end, and what an edit list leaves out
                    continue
                frames += 1
                seconds = clock.tick(None if packet.dts is None else float(packet.dts * packet.time_base))
                check_length(frames, seconds, max_frames=max_frames, max_seconds=max_seconds)
        except (OSError, av.FFmpegError):
            pass
        length = Length(frames, clock.seconds + clock.usual_distance if frames else 0.0)
    check_length(length.frames, length.seconds, max_frames=max_frames, max_seconds=max_seconds)
    return length


def check_length(frames: int, seconds: float, *, max_frames: int, max_seconds: float) -> None:
    """Raise TooLarge for a video that is longer than the limits."""
    if seconds > max_seconds:
        raise TooLarge(f"the video is longer than {max_seconds:g} s, which is the most that is taken; cut it")
    if frames > max_frames:
        raise TooLarge(f"the video has more than {max_frames} frames, which is the most that is taken; cut it")


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


def _open_camera(av: Any, source: str) -> "InputContainer":
    try:
        return open_camera(av, source)
    except MemoryError:
        raise TooLarge(_OUT_OF_MEMORY) from None


def _open(av: Any, source: str | Path) -> "InputContainer":
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    try:
        # Nothing reads the metadata, whose texts may be in any encoding.
        container: InputContainer = av.open(str(source), options=options, metadata_errors="replace")
    except MemoryError:
        raise TooLarge(_OUT_OF_MEMORY) from None
    except (av.error.InvalidDataError, av.error.EOFError):
        raise BadVideo(f"the video is damaged, cut short or no video; {KINDS} can be read") from None
    except av.error.ArgumentError:  # raised for a format outside of `format_whitelist`
        raise BadVideo(f"the video's format is not supported: send {KINDS}") from None
    except (OSError, av.FFmpegError) as error:
        if error.errno == errno.EIO:  # the header promises more data than there is
            raise BadVideo(f"the video is damaged or cut short; {KINDS} can be read") from None
        raise BadVideo(f"the video cannot be opened: {error.strerror or 'it cannot be read'}") from None
    return container


def _first_video(av: Any, container: "InputContainer") -> Any:
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        others = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise BadVideo(f"the video has no image: only {others}")
    return streams[0]


def _rate_of(stream: Any) -> float:
    """Return the frames per second between two frames, if the file has it; else 0."""
    return float(stream.guessed_rate or stream.average_rate or 0)
