"""The pipeline without the service: no HTTP, no event loop, no queues. The limit of what a core can do."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

import cv2

from posewire import PosePipeline


def _work(orders: Connection, images: Sequence[bytes]) -> None:
    """A core's process: for every order of some seconds, answer with the images that were done and the seconds it took."""
    cv2.setNumThreads(1)
    pipeline = PosePipeline.load(device="cpu", threads=1)
    for image in images:
        pipeline(image)
    orders.send("ready")
    while (seconds := orders.recv()) is not None:
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            pipeline(images[done % len(images)])
            done += 1
        orders.send((done, time.perf_counter() - started))


class BareCores:
    """One process a core, idle between orders."""

    def __init__(self, workers: Sequence[Connection]) -> None:
        self._workers = workers

    def rate(self, seconds: float) -> float:
        """Images a second of all cores together, measured for `seconds`."""
        for worker in self._workers:
            worker.send(seconds)
        return float(sum(done / took for done, took in (worker.recv() for worker in self._workers)))


@contextmanager
def bare_cores(cores: int, images: Sequence[bytes]) -> Iterator[BareCores]:
    """Start the processes, warm them, and end them afterwards."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        ends = []
        for _ in range(cores):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, images), daemon=True)
            process.start()
            theirs.close()  # so that recv raises EOFError where the process has died
            stack.callback(process.join, 10)
            stack.callback(ours.send, None)
            ends.append(ours)
        for end in ends:
            end.recv()
        yield BareCores(ends)
