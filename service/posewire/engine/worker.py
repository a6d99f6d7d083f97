"""The loop of a worker process, and what it runs."""

import asyncio
import logging
import os
import pickle
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import cv2

assert sys.platform == "linux"  # mypy skips the rest elsewhere, where nothing imports this module

from posewire.backends.device import DevicePlan, Runtime
from posewire.config import Settings
from posewire.engine.cost_model import CostTable
from posewire.engine.image_run import ImageRun, run_image
from posewire.engine.ipc import Channel
from posewire.engine.pool import Ran, ThreadPool
from posewire.engine.profiler import Profile, exclusive_pays, restore, warm
from posewire.pipeline.pose_pipeline import ImageJob, PosePipeline, load_pipeline
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Task

In = TypeVar("In")
Out = TypeVar("Out")

log = logging.getLogger(__name__)

# What a process works on: the number of the batch, 0 for none, and when it began it, in seconds, monotonic.
NOTE: Final = struct.Struct("<qd")

# CPU seconds of the decoding of one image: a multiple of what the slowest honest file of so many pixels takes.
_DECODE_S_PER_PIXEL = 1e-7
_MIN_DECODE_S = 1.0


class Answer(NamedTuple):
    """The outcome of a batch; of number 0: the process cannot begin, and why."""

    number: int
    ran: Ran[Any] | Exception


class CpuBudget:
    """While it is entered, the kernel ends this process with `SIGPROF` when it has used its CPU seconds.

    A decoder that does not return cannot be interrupted in any other way: a Python signal handler runs after the C call.

    Args:
        seconds: of CPU time, of all threads of the process.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


class _Own:
    """Of this process."""

    pipeline: PosePipeline
    max_batch: int


def prepare(settings: Settings, plan: DevicePlan, runtime: Runtime | None, known: Profile | None) -> Mapping[Task, CostTable]:
    """Load the models into this process and warm them; measure them if no profile is known."""
    configure_logging(settings.log_level, sys.stdout)
    cv2.setNumThreads(1)  # images run side by side, one in each process
    decode_limit = CpuBudget(max(_MIN_DECODE_S, _DECODE_S_PER_PIXEL * settings.max_pixels))
    _Own.pipeline, _Own.max_batch = load_pipeline(settings, plan, runtime, decode_limit), settings.max_batch
    return asyncio.run(_warm(known))


async def _warm(known: Profile | None) -> Mapping[Task, CostTable]:
    pool = ThreadPool(1)
    if known is None:
        costs = await warm(_Own.pipeline, pool, {"detector": 1, "pose": _Own.max_batch})
    else:
        costs = (await restore(_Own.pipeline, pool, known)).costs
    await pool.close()
    return costs


def run_images(jobs: Sequence[ImageJob], /) -> Sequence[ImageRun]:
    """Run images by this process's models, one after the other."""
    return [run_image(_Own.pipeline, job, _Own.max_batch) for job in jobs]


def exclusive_pays_here(_: Sequence[None]) -> list[bool]:
    """As `exclusive_pays`."""
    return [exclusive_pays(_Own.pipeline.detector)]


def work(batches: int, answers: int, working_on: int, index: int) -> None:
    """Run batches until the service has gone.

    Args:
        batches: descriptor of the socket that all processes of the pool read from.
        answers: descriptor of this process's own socket.
        working_on: descriptor of the memory file of `NOTE`s.
        index: of this process in it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service manager sends it to everyone; the service drains first
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, see `CpuBudget`
    incoming, outgoing = Channel(socket.socket(fileno=batches)), Channel(socket.socket(fileno=answers))
    try:
        outgoing.send(outgoing.receive()())
    except Exception as error:
        outgoing.send(Answer(0, error))
        return
    incoming.socket.setblocking(False)
    # With epoll the kernel wakes the first process of its list. With blocking reads it would wake the one that has waited longest.
    # So a lone caller's images run in the same process, whose caches are warm.
    readable = select.epoll()
    readable.register(incoming.socket, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    position = NOTE.size * index
    try:
        while True:
            number, function, batch = _next(incoming, readable)
            os.pwrite(working_on, NOTE.pack(number, time.monotonic()), position)
            file = outgoing.send(Answer(number, _run(function, batch)))
            if file is not None:
                os.close(file)
            os.pwrite(working_on, bytes(NOTE.size), position)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _next(incoming: Channel, readable: "select.epoll") -> Any:
    while True:
        try:
            return incoming.receive()
        except BlockingIOError:
            readable.poll()


def _run(function: Callable[[Sequence[In]], Sequence[Out]], batch: Sequence[In]) -> Ran[Out] | Exception:
    started = time.monotonic()
    try:
        return Ran(function(batch), started, time.monotonic())
    except Exception as error:
        log.exception("a run failed")
        return _portable(error)


def _portable(error: Exception) -> Exception:
    """Return the error, or one with its message where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
