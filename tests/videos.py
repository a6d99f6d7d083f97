"""Videos for the tests, made here."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer

from posewire.types import UInt8Array
from tests.sample_images import astronaut

_TICKS = 90_000  # a second


def walk(frames: int = 12, size: int = 320) -> list[UInt8Array]:
    """The astronaut, who moves a little to the right from frame to frame."""
    image = np.asarray(cv2.resize(astronaut(), (size, size)), np.uint8)
    return [np.ascontiguousarray(np.roll(image, 2 * i, axis=1)) for i in range(frames)]


def write_video(
    path: Path,
    frames: Sequence[UInt8Array],
    *,
    times: Sequence[float] | None = None,
    rotation: float = 0.0,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    title: str = "",
    sound_s: float = 0.0,
) -> Path:
    """An H.264 video.

    Args:
        path: tells the container by its suffix.
        frames: (H, W, 3) uint8 RGB, of even sides.
        times: of the frames, seconds; None: ten a second.
        rotation: of the display matrix, degrees; 0: none.
        matrix: the whole display matrix, in the file's fixed point; None: as `rotation` says.
        aspect: of the pixels; None: not stated.
        title: in the metadata of the file and of the stream.
        sound_s: seconds of silence beside it.
    """
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        if rotation:
            stream.set_display_rotation(rotation)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if title:
            container.metadata["title"] = stream.metadata["title"] = stream.metadata["handler_name"] = title
        sound = container.add_stream("aac", rate=16_000) if sound_s else None
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round((i / 10 if times is None else times[i]) * _TICKS), Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _write_silence(container, sound, round(sound_s * 16_000 / 1024))
    return path


def write_sound(path: Path) -> Path:
    """A file with sound and no image."""
    with av.open(str(path), "w") as container:
        _write_silence(container, container.add_stream("aac", rate=16_000), 5)
    return path


def _write_silence(container: OutputContainer, stream: AudioStream, frames: int) -> None:
    for i in range(frames):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 16_000, i * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def empty_video(path: Path) -> Path:
    """A Matroska file that has its header and no frame."""
    whole = write_video(path, walk(3)).read_bytes()
    path.write_bytes(whole[: whole.index(bytes.fromhex("1f43b675"))])  # where the first cluster begins
    return path


def times_of(path: Path) -> list[float]:
    """Of the frames, seconds, as a player sees them."""
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]
