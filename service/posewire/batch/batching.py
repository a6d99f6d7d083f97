"""A whole batch: what is to be done, by whom, and how it ends."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Self

from posewire.batch.local import run_here
from posewire.batch.output import Output
from posewire.batch.places import absolute
from posewire.batch.reading import ReadingOptions, read_items
from posewire.batch.run import Run
from posewire.batch.saving import Pending
from posewire.batch.sources import Source, find_sources
from posewire.batch.tables import Form
from posewire.batch.tally import Tally
from posewire.config import Settings
from posewire.engine.engine import load_engine
from posewire.registry.choice import choose
from posewire.registry.store import open_store
from posewire.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """The options of a batch."""

    sources: tuple[str, ...]  # as `find_sources` takes them
    out: str  # a folder or prefix, or the address of one Parquet file
    form: Form = "parquet"
    column: str | None = None  # of Parquet files; None: the only one with bytes
    fps: float | None = None  # frames per second of videos; None: all frames
    shard_images: int = 2000  # images and failures of a shard


class Batch:
    """The images of some sources, and the place of their results. Built by `open`; `run` processes what is not done.

    Args:
        settings: with the models pinned.
        options: of the batch.
        run: that the settings and the options describe.
        output: the results.
        sources: all of them.
    """

    def __init__(self, settings: Settings, options: BatchOptions, run: Run, output: Output, sources: list[Source]) -> None:
        self.settings = settings
        self.options = options
        self.identity = run
        self.output = output
        self.todo = [source for source in sources if not self._is_done(source)]
        self.tally = Tally.of(sources, self.todo, len(output.found.done))
        self._started = time.monotonic()

    @classmethod
    @contextmanager
    def open(cls, options: BatchOptions, settings: Settings, stdin: BinaryIO) -> Iterator[Self]:
        """Find the sources, and what earlier runs have left; keeps other processes out while the context is entered.

        Raises:
            PosewireError: a source or the place of the results cannot be used; the message says why.
        """
        choice = choose(settings, open_store(settings).manifest)
        settings = choice.pin(settings)
        run = Run.of(settings, choice, options.form, options.column, options.fps)
        output = Output(absolute(options.out), run)
        sources = find_sources(options.sources, stdin, output.addresses)
        with output.begin(options.sources):
            yield cls(settings, options, run, output, sources)

    @property
    def seconds(self) -> float:
        """Time since the sources were found."""
        return time.monotonic() - self._started

    @property
    def reading(self) -> ReadingOptions:
        """How the sources are read."""
        return ReadingOptions(self.options.column, self.options.fps, self.settings.max_bytes, self.settings.max_pixels)

    def pending(self, on_change: Callable[[Tally], None]) -> Pending:
        """Return what collects outcomes for the shards; `on_change` is called after each image."""
        return Pending(self.output, self.tally, on_change, self.options.shard_images)

    async def run(self, on_change: Callable[[Tally], None]) -> None:
        """Process what is not done, on this machine, and complete the results. When it is cancelled, what is done is written.

        Args:
            on_change: called after each image.

        Raises:
            PosewireError: it cannot go on; the message says why. The same call goes on later.
        """
        if self.todo:
            engine = await asyncio.to_thread(load_engine, self.settings, Metrics(), processes=True)
            try:
                await engine.start()
                read = partial(read_items, options=self.reading, done=self.output.found.done)
                await run_here(engine, self.todo, read, self.pending(on_change))
            finally:
                await engine.close()
        await asyncio.to_thread(self.output.finish, self.seconds)

    def _is_done(self, source: Source) -> bool:
        if source.kind == "image":
            return source.key.digest() in self.output.found.done
        return self.output.is_complete(source)
