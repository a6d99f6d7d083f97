"""Small videos, whole and damaged."""

import io
from fractions import Fraction
from functools import cache
from random import Random

import av
import cv2
import numpy as np

from loadtests import sample_images
from loadtests.hostile.mutations import damaged, mp4_blocks
from posewire.types import UInt8Array

CONTAINERS = {"mp4": "mp4", "mkv": "matroska", "ts": "mpegts"}  # by suffix, as FFmpeg names them
_RATE = 10
_SEED = 29


def film(frames: int, container: str = "mp4", size: int = 160, image: bytes | None = None) -> bytes:
    """An H.264 video of an image that moves to the right, ten frames a second.

    Args:
        frames: how many.
        container: of `CONTAINERS`.
        size: width and height, pixels; even.
        image: encoded; None: of one person.
    """
    pixels = cv2.imdecode(np.frombuffer(image or sample_images.single(), np.uint8), cv2.IMREAD_COLOR_RGB)
    small = np.asarray(cv2.resize(np.asarray(pixels, np.uint8), (size, size)), np.uint8)
    out = io.BytesIO()
    with av.open(out, "w", format=CONTAINERS[container]) as made:
        stream = made.add_stream("libx264", rate=_RATE, options={"preset": "ultrafast", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(_shifted(small, 2 * i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, _RATE)
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return out.getvalue()


def _shifted(pixels: UInt8Array, by: int) -> UInt8Array:
    return np.ascontiguousarray(np.roll(pixels, by, axis=1))


@cache
def sources() -> dict[str, bytes]:
    """A whole video by container."""
    return {container: film(6, container, 96) for container in CONTAINERS}


def mutated(number: int) -> bytes:
    """The video of a number, damaged in one to three ways; always the same for the same number."""
    random = Random(_SEED * 1_000_003 + number)  # noqa: S311 - the same numbers again and again are what is wanted
    name = list(sources())[number % len(sources())]
    return damaged(random, sources()[name], mp4_blocks if name == "mp4" else None, list(sources().values()))
