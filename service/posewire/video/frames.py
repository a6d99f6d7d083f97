"""The frames of a video as an asynchronous iterator that decodes one frame ahead."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor

from posewire.video.reading import VideoFrame


async def frames(reader: Iterator[VideoFrame], threads: Executor | None) -> AsyncGenerator[VideoFrame, None]:
    """Yield frames; the next one is decoded on a thread while the caller processes the last one.

    Args:
        reader: is read to its end, or until this generator is closed; it is not closed.
        threads: executor that decodes; None: the event loop's own.

    Raises:
        ServiceError: as the reader.
    """
    ahead = asyncio.create_task(_next(reader, threads))
    try:
        while (frame := await ahead) is not None:
            ahead = asyncio.create_task(_next(reader, threads))
            yield frame
    finally:
        # Nobody awaits the frame that is being decoded, so its error is ignored.
        ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
        ahead.cancel()


async def _next(reader: Iterator[VideoFrame], threads: Executor | None) -> VideoFrame | None:
    return await asyncio.get_running_loop().run_in_executor(threads, next, reader, None)
