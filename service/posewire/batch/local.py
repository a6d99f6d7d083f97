"""A batch on this machine: the engine that serves HTTP runs it, so reading, decoding and inference overlap."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, TypeVar

from posewire.batch.items import Ended, Failure, Item, Outcome, Read, Unread
from posewire.batch.places import is_remote
from posewire.batch.reading import load
from posewire.batch.saving import Pending
from posewire.batch.sources import Source
from posewire.engine.engine import Engine
from posewire.errors import DeadlineExceeded, InferenceFailed, OutOfMemory, Overloaded, PosewireError, ServiceError
from posewire.types import Frame, PoseOptions, PoseResult

T = TypeVar("T")

# Images that are read and not done, at most: enough to keep a GPU busy.
_AHEAD: Final = 64
# Bytes of them, encoded or decoded, at most; more only if one image alone has more.
_BYTES_AHEAD: Final = 256_000_000
# Images that are taken from a source at once: to reach its thread takes longer than to read one.
_CHUNK: Final = 16
_CHUNK_BYTES: Final = 16_000_000
_READERS: Final = 4  # threads that read files of this machine
_REMOTE_READERS: Final = 32  # a store answers late, but many at a time

# These may be the fault of another image, such as one that ended a worker process; so an image is tried so many times.
_TRANSIENT: Final = (InferenceFailed, Overloaded, OutOfMemory, DeadlineExceeded)
_TRIES: Final = 3


async def run_here(engine: Engine, sources: Sequence[Source], read: Callable[[Source], Iterator[Read]], pending: Pending) -> None:
    """Process all images of sources, in their order.

    When it is cancelled, what is done is written before it ends.

    Args:
        engine: started.
        sources: to be read.
        read: yields the images of a source; it runs on a thread.
        pending: takes what came of each image.

    Raises:
        PosewireError: the results cannot be written, a source needs an extra, or the models keep failing.
    """
    readers = _REMOTE_READERS if any(is_remote(source.address) for source in sources) else _READERS
    with ThreadPoolExecutor(1, "posewire-sources") as opener, ThreadPoolExecutor(readers, "posewire-files") as threads:
        async with aclosing(_chunks(_all(sources, read), opener)) as chunks:
            await _Run(engine, pending, threads).process(chunks)


class _Run:
    def __init__(self, engine: Engine, pending: Pending, threads: Executor) -> None:
        self._engine = engine
        self._pending = pending
        self._threads = threads
        self._options = engine.settings.pose_options()
        self._ahead: deque[tuple[int, asyncio.Task[Outcome] | Ended]] = deque()
        self._bytes = 0  # of the images in `_ahead`
        self._writing: asyncio.Future[None] | None = None

    async def process(self, chunks: AsyncIterator[Sequence[Read]]) -> None:
        try:
            async for chunk in chunks:
                for read in chunk:
                    await self._begin(read)
            while self._ahead:
                await self._take_first()
            await self._write()
            await self._written()
        except BaseException:
            await self._save_rest()
            raise

    async def _begin(self, read: Read) -> None:
        size = 0 if isinstance(read, Ended) else _bytes_of(read)
        while self._ahead and (len(self._ahead) >= _AHEAD or self._bytes + size > _BYTES_AHEAD):
            await self._take_first()
        self._bytes += size
        self._ahead.append((size, read if isinstance(read, Ended) else asyncio.create_task(self._outcome(read))))

    async def _take_first(self) -> None:
        size, first = self._ahead[0]
        if not isinstance(first, Ended):
            await asyncio.wait([first])  # which a cancellation leaves as it is
        self._ahead.popleft()
        self._bytes -= size
        if isinstance(first, Ended):
            self._pending.end(first)
        else:
            self._pending.add(first.result())
        if self._pending.full:
            await self._write()

    async def _write(self) -> None:
        """Write what is pending on a thread; wait for the writing before."""
        await self._written()
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._pending.take())

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing])
            writing, self._writing = self._writing, None
            writing.result()

    async def _save_rest(self) -> None:
        """After an error or a cancellation: write what is done, without a gap, and leave out the rest."""
        while self._ahead:
            _, first = self._ahead[0]
            if isinstance(first, Ended):
                self._pending.end(first)
            elif first.done() and not first.cancelled() and first.exception() is None:
                self._pending.add(first.result())
            else:
                break
            self._ahead.popleft()
        rest = [task for _, task in self._ahead if not isinstance(task, Ended)]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        with suppress(PosewireError):  # the first error is told
            await self._write()
            await self._written()

    async def _outcome(self, item: Item) -> Outcome:
        """Return what comes of an image.

        Raises:
            PosewireError: the models keep failing: the fault is not that of the image.
        """
        content = item.content
        if isinstance(content, Unread):
            content = await asyncio.get_running_loop().run_in_executor(
                self._threads, partial(load, content, self._engine.settings.max_bytes)
            )
        result = content if isinstance(content, Failure) else await self._estimate(content, self._options)
        return Outcome(item.key, result, item.weight, item.time_ms)

    async def _estimate(self, content: bytes | Frame, options: PoseOptions) -> PoseResult | Failure:
        engine = self._engine
        for left in reversed(range(_TRIES)):
            try:
                return await (engine.estimate_frame(content, options) if isinstance(content, Frame) else engine.estimate(content, options))
            except _TRANSIENT as error:
                if not left:
                    if engine.failing or engine.stuck:
                        raise PosewireError(f"the models keep failing: {error.detail}; no image is given up for this") from None
                    return Failure(error.slug, error.detail)
            except ServiceError as error:
                return Failure(error.slug, error.detail)
        raise AssertionError("unreachable")


def _bytes_of(item: Item) -> int:
    content = item.content
    if isinstance(content, Frame):
        return content.pixels.nbytes
    return content.bytes if isinstance(content, Unread) else len(content) if isinstance(content, bytes) else 0


def _all(sources: Sequence[Source], read: Callable[[Source], Iterator[Read]]) -> Generator[Read, None, None]:
    for source in sources:
        yield from read(source)


async def _chunks(reads: Generator[Read, None, None], thread: Executor) -> AsyncGenerator[Sequence[Read], None]:
    """Yield a few images at a time; the next ones are read meanwhile."""
    loop = asyncio.get_running_loop()
    ahead = loop.run_in_executor(thread, _take, reads)
    try:
        while chunk := await asyncio.shield(ahead):
            ahead = loop.run_in_executor(thread, _take, reads)
            yield chunk
    finally:
        await asyncio.wait([ahead])  # the thread ends with the chunk that it reads
        ahead.exception()  # nobody else asks for it
        await loop.run_in_executor(thread, reads.close)


def _take(reads: Iterable[Read]) -> list[Read]:
    taken: list[Read] = []
    size = 0
    for read in reads:
        taken.append(read)
        size += 0 if isinstance(read, Ended) or isinstance(read.content, Unread) else _bytes_of(read)
        if len(taken) >= _CHUNK or size >= _CHUNK_BYTES:
            break
    return taken
