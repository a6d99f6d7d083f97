"""The process that reads one camera: a crash of a codec ends it and nothing else.

Its standard input has the source on the first line, so that no list of processes shows a password, and then a byte for each frame that is
wanted. Its standard output has a line of JSON for each message, and after that of a frame its pixels.
"""

import asyncio
import os
import sys
import threading

from posewire.errors import ServiceError
from posewire.video.camera import Camera
from posewire.video.decoder import ignore_stop_signals, limit_memory
from posewire.video.messages import MessageOutput


def watch(max_pixels: int) -> None:
    """Read a camera; the main function of the process. It ends when the service closes standard input or output.

    Args:
        max_pixels: limit of pixels of one frame.
    """
    ignore_stop_signals()
    output = MessageOutput(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what a library prints is no message
    source = sys.stdin.buffer.readline().decode().rstrip("\n")
    try:
        limit_memory(max_pixels)
        asyncio.run(_send_frames(output, source, max_pixels))
    except BrokenPipeError:
        pass
    except ServiceError as error:
        output.send({"error": error.slug, "detail": error.detail})
    os._exit(0)  # the camera's thread may wait for a frame


async def _send_frames(output: MessageOutput, source: str, max_pixels: int) -> None:
    wanted = asyncio.Semaphore(0)
    threading.Thread(target=_read_wishes, args=(asyncio.get_running_loop(), wanted), daemon=True).start()
    async with Camera(source, max_pixels=max_pixels, report=lambda text: output.send({"lost": text}), keep_trying=True) as camera:
        while True:
            await wanted.acquire()
            newest = await camera.newest()
            if newest is None:
                output.send({"end": True})
                return
            video = newest.video
            head = {"frame": video.index, "t_seconds": video.t_seconds, "dropped": newest.dropped, "received_s": newest.received_s}
            output.send(head | {"width": video.frame.width, "height": video.frame.height}, video.frame.pixels.data)


def _read_wishes(loop: asyncio.AbstractEventLoop, wanted: asyncio.Semaphore) -> None:
    """Count the frames that are wanted. The end of standard input ends the process, also while its camera is away: the service has gone."""
    while sys.stdin.buffer.read(1):
        loop.call_soon_threadsafe(wanted.release)
    os._exit(0)
