"""The messages of processes that decode: a line of JSON, and after that of a frame its pixels.

They are not pickled: who takes over such a process by a file takes over no other.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any, Final

import numpy as np

from posewire.errors import error_of
from posewire.types import Frame
from posewire.video.reading import VideoFrame

_MAX_HEAD_BYTES: Final = 4096


def environment() -> dict[str, str]:
    """Return the environment of such a process: it imports what this one does."""
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # NumPy's threads are not used; their stacks would count as memory.
    return os.environ | paths | {"OPENBLAS_NUM_THREADS": "1"}


def send(output: IO[bytes], head: Mapping[str, object], pixels: memoryview | None = None) -> None:
    """Write a message."""
    output.write(json.dumps(head).encode() + b"\n")
    if pixels is not None:
        output.write(pixels)
    output.flush()


class MessageOutput:
    """Whole messages, from several threads."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def send(self, head: Mapping[str, object], pixels: memoryview | None = None) -> None:
        """Write a message."""
        with self._lock:
            send(self._file, head, pixels)


def read_head(output: IO[bytes]) -> dict[str, Any]:
    """Return the head of the next message.

    Raises:
        ValueError: the process has died, or says what it should not.
        ServiceError: the error that the message reports.
    """
    return parse_head(output.readline(_MAX_HEAD_BYTES))


def parse_head(line: bytes) -> dict[str, Any]:
    """Return the head that a line has; raises as `read_head`."""
    if not line.endswith(b"\n"):
        raise ValueError("the message is cut short")
    head: dict[str, Any] = json.loads(line)
    try:
        error = error_of(head["error"], head["detail"]) if "error" in head else None
    except (KeyError, TypeError) as fault:
        raise ValueError("the message is no report of an error") from fault
    if error is not None:
        raise error
    return head


def read_frame(output: IO[bytes], head: Mapping[str, Any], max_pixels: int) -> VideoFrame:
    """Return the frame of a message, whose pixels follow its head.

    Raises:
        ValueError: as `read_head`, or the frame has more than `max_pixels`.
    """
    index, t_seconds, width, height = frame_fields(head, max_pixels)
    pixels = np.empty((height, width, 3), np.uint8)
    if output.readinto(pixels.data.cast("B")) != pixels.nbytes:  # type: ignore[attr-defined]
        raise ValueError("the frame is cut short")
    return VideoFrame(index, t_seconds, Frame(pixels))


def frame_fields(head: Mapping[str, Any], max_pixels: int) -> tuple[int, float, int, int]:
    """Return the number, the seconds, the width and the height of a frame.

    Raises:
        ValueError: as `read_frame`.
    """
    try:
        index, t_seconds, width, height = int(head["frame"]), float(head["t_seconds"]), int(head["width"]), int(head["height"])
    except (KeyError, TypeError) as fault:
        raise ValueError("the message is no frame") from fault
    if min(width, height) < 1 or width * height > max_pixels:
        raise ValueError("the frame has a wrong size")
    return index, t_seconds, width, height
