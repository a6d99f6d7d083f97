"""The batches of a training, drawn on this thread or by processes that run ahead of it."""

import os
import pickle
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
import torch

from posewire.errors import PosewireError

Drawn = TypeVar("Drawn", covariant=True)  # noqa: PLC0105 - read in `Drawing` as any other type
T = TypeVar("T")

# Batches that each process has drawn, or is drawing, before they are asked for.
_AHEAD = 2


class Source(Protocol[Drawn]):
    """Draws batches. It can be pickled if processes are to draw."""

    def batch(self, stretch: int, size: int, rng: np.random.Generator) -> Drawn:
        """A batch of a stretch of the training; all chance comes from `rng`."""


class Drawing(Generic[T]):
    """Batches by step: each depends on the seed, the step and the stretch only, whoever draws it.

    Args:
        source: draws them.
        size: of a batch.
        seed: of the training.
        workers: processes; 0: the thread that asks draws.
    """

    def __init__(self, source: Source[T], size: int, seed: int, workers: int) -> None:
        self._source = source
        self._size = size
        self._seed = seed
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._coming: dict[tuple[int, int], Future[bytes]] = {}

    def __enter__(self) -> "Drawing[T]":
        if self._workers:
            # Not forked: the threads of torch, and a GPU's, do not live on in a copy.
            self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"), _begin, (self._source,))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def batch(self, step: int, stretch: int) -> T:
        """The batch of a step.

        Raises:
            PosewireError: a process that drew has died.
        """
        if self._pool is None:
            return _draw(self._source, stretch, self._size, self._seed, step)
        try:
            for ahead in range(step, step + _AHEAD * self._workers + 1):
                if (ahead, stretch) not in self._coming:
                    self._coming[ahead, stretch] = self._pool.submit(_draw_here, stretch, self._size, self._seed, ahead)
            drawn: T = pickle.loads(self._coming[step, stretch].result())  # noqa: S301 - a process of our own wrote it
        except BrokenProcessPool:
            raise PosewireError("a process that draws batches has died: is there too little memory? The same command goes on") from None
        # What was drawn ahead for a stretch that has ended is not asked for any more.
        self._coming = {key: future for key, future in self._coming.items() if key[0] > step and key[1] == stretch}
        return drawn


def _draw(source: Source[T], stretch: int, size: int, seed: int, step: int) -> T:
    return source.batch(stretch, size, np.random.default_rng([seed, step]))


_source: Any = None  # of a process that draws


def _begin(source: Any) -> None:
    global _source  # noqa: PLW0603 - what a process of its own works on
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, which saves first
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _source = source


def _end_with_parent() -> None:
    """A training that was killed leaves no process behind."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _draw_here(stretch: int, size: int, seed: int, step: int) -> bytes:
    # As bytes: tensors would go through shared memory, of which a container may have little.
    return pickle.dumps(_draw(_source, stretch, size, seed, step), protocol=pickle.HIGHEST_PROTOCOL)
