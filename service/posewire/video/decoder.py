"""The process that decodes one video: it is limited, and a crash of a codec ends it and nothing else.

It writes messages to its standard output: a line of JSON, and after that of a frame its pixels. The pipe is the back-pressure: the
process waits until the service has read a frame. Messages are not pickled: who took over this process by a file takes over no other.
"""

import math
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from posewire.errors import NotInstalled, ServiceError, TooLarge
from posewire.video.messages import send
from posewire.video.reading import VideoReader, measure

# Bytes beside those of frames, and for each pixel of the largest frame: a codec keeps 16 frames and some more of up to 6 bytes a
# pixel (4:4:4 of more than 8 bits), and a frame is converted and turned.
_MEMORY_BYTES = 512 * 2**20
_MEMORY_BYTES_PER_PIXEL = 160

# CPU time for the header, and for each frame: many times what a frame of 4K takes.
_CPU_S = 10.0
_CPU_PER_FRAME_S = 0.25


def decode(video: int, max_pixels: int, max_frames: int, max_seconds: float) -> None:
    """Decode a video to standard output; the main function of the process. It ends when the service closes standard input or output.

    Args:
        video: descriptor of the file.
        max_pixels: limit of pixels of one frame.
        max_frames: limit of frames.
        max_seconds: limit of seconds.
    """
    ignore_stop_signals()
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no message
    threading.Thread(target=_end_with_service, daemon=True).start()
    try:
        _limit(max_pixels)
        _send_frames(output, Path(f"/dev/fd/{video}"), max_pixels, max_frames, max_seconds)
    except BrokenPipeError:
        os._exit(0)
    except ServiceError as error:
        send(output, {"error": error.slug, "detail": error.detail})
    except MemoryError:
        send(output, {"error": TooLarge.slug, "detail": "the video needs more memory to decode than there is for it"})


def _send_frames(output: IO[bytes], source: Path, max_pixels: int, max_frames: int, max_seconds: float) -> None:
    length = measure(source, max_frames=max_frames, max_seconds=max_seconds)
    with VideoReader(source, max_pixels=max_pixels) as reader:
        info = reader.info
        if length.frames >= (info.frames or 0):  # else it is damaged, and its header is more right
            info = replace(info, frames=length.frames, duration_s=round(length.seconds, 6))
        send(output, {"info": asdict(info)})
        for read in reader:
            pixels = read.frame.pixels
            head = {"frame": read.index, "t_seconds": read.t_seconds, "width": read.frame.width, "height": read.frame.height}
            send(output, head, pixels.data)
            _allow_cpu(read.index + 1)
    send(output, {"end": True})


def ignore_stop_signals() -> None:
    """Let this process go on at a stop: a service manager sends the signal to everyone, and the service ends this process."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _resource() -> Any:
    try:
        return import_module("resource")
    except ImportError:
        raise NotInstalled("videos are not decoded here: this system cannot limit the memory and the CPU time of a process") from None


def _limit(max_pixels: int) -> None:
    _resource().setrlimit(_resource().RLIMIT_CORE, (0, 0))
    _allow_cpu(0)
    limit_memory(max_pixels)


def limit_memory(max_pixels: int) -> None:
    """Let this process have the memory to decode frames of at most `max_pixels`, and no more."""
    resource = _resource()
    with suppress(OSError):  # only Linux has these files
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")  # where memory is short, the kernel ends this process before others
        mapped = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        memory = mapped + _MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * max_pixels
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _allow_cpu(frames: int) -> None:
    """Allow the CPU time for so many frames and the next; beyond it SIGXCPU ends the process."""
    resource = _resource()
    seconds = math.ceil(_CPU_S + frames * _CPU_PER_FRAME_S)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _end_with_service() -> None:
    """End the process when standard input ends: the service has closed it, or was killed."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)
