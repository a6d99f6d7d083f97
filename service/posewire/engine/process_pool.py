"""Worker processes that run models. The service survives the death of a worker.

All workers read from one socket: a free worker takes the next batch. Each answers on a socket of its own. If a worker dies, the
batch that it ran fails, and another worker is started. When the service ends, even by SIGKILL, its workers read the end of
the socket and end too.
"""

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from posewire.engine.ipc import Channel
from posewire.engine.pool import ComputePool, Ended, Ran, settle
from posewire.engine.worker import NUMBER, Answer
from posewire.errors import InferenceFailed

In = TypeVar("In")
Out = TypeVar("Out")

log = logging.getLogger(__name__)

# Seconds between attempts to replace a worker. The first attempt is made at once.
_FIRST_PAUSE_S = 0.1
_LAST_PAUSE_S = 5.0
_END_S = 10.0
_POLL_S = 0.01

# Weights and feature maps in pages of 2 MB where the system offers them (`madvise`).
# https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html; other C libraries ignore it.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"

_MAIN = "import sys; from posewire.engine.worker import work; work(*map(int, sys.argv[1:]))"


@dataclass(slots=True)
class _Job:
    message: tuple[int, Callable[[Sequence[Any]], Sequence[Any]], Sequence[Any]]  # number, function, batch
    ended: Ended[Any]
    file: int | None  # the memory file of the batch
    lost: bool = False  # a worker may have died with it before it reported that it had taken it


@dataclass(slots=True)
class _Worker:
    index: int
    process: subprocess.Popen[bytes]
    answers: Channel
    ready: asyncio.Future[Any]  # what its initializer returned


class ProcessPool(ComputePool):
    """A pool of processes instead of threads: functions and batches of `run` are pickled, functions by their names.

    Args:
        workers: processes.
        initializer: called in each process before its first run; `start` returns its results. Pickled.
        died: called for each process that dies while the pool is open.
    """

    def __init__(self, workers: int, initializer: Callable[[], Any], died: Callable[[], None] = lambda: None) -> None:
        super().__init__(workers)
        self._initializer = initializer
        self._died = died
        self._jobs: dict[int, _Job] = {}
        self._numbers = count(1)
        self._workers: dict[int, _Worker] = {}
        self._replacements: set[asyncio.Task[None]] = set()
        self._closing = False
        self._batches, self._workers_end = Channel.pair()
        self._batches.socket.setblocking(False)
        self._in_progress = os.memfd_create("posewire-in-progress")
        os.pwrite(self._in_progress, bytes(NUMBER.size * workers), 0)

    @property
    def ready(self) -> bool:
        """True if at least one process can run batches."""
        return any(worker.ready.done() for worker in self._workers.values())

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes."""
        return [worker.process.pid for worker in self._workers.values()]

    async def start(self) -> list[Any]:
        """Start all processes at the same time; return the results of their initializers.

        Raises:
            Exception: an initializer raised it; no process is left.
        """
        launches = [asyncio.create_task(self._launch(index)) for index in range(self.workers)]
        try:
            return await asyncio.gather(*launches)
        except BaseException:
            for launch in launches:
                launch.cancel()
            await asyncio.gather(*launches, return_exceptions=True)
            await self.close()
            raise

    def begin(self, function: Callable[[Sequence[In]], Sequence[Out]], items: Callable[[], Sequence[In]], ended: Ended[Out]) -> None:
        """Run `function`, which is pickled by its name, on the next free process.

        `ended` gets `InferenceFailed` if that process dies.
        """
        batch = items()
        if not batch:
            now = time.monotonic()
            asyncio.get_running_loop().call_soon(ended, Ran((), now, now))
            return
        number = next(self._numbers)
        message = (number, function, batch)
        self._jobs[number] = _Job(message, ended, self._batches.send(message))

    async def close(self) -> None:
        """Wait until the processes finish their batches, and end them."""
        self._closing = True
        for task in self._replacements:
            task.cancel()
        await asyncio.gather(*self._replacements, return_exceptions=True)
        self._batches.close()
        self._workers_end.close()
        for worker in list(self._workers.values()):
            await asyncio.to_thread(_end, worker.process)
            while worker in self._workers.values():
                self._receive(worker)  # its last answers may be unread; the worker is removed at the end of the channel
        while self._jobs:
            self._jobs.popitem()[1].ended(InferenceFailed("the service is stopping"))
        if self._in_progress >= 0:
            os.close(self._in_progress)
            self._in_progress = -1

    async def _launch(self, index: int) -> Any:
        """Start a process and wait until it is ready; return the result of its initializer."""
        loop = asyncio.get_running_loop()
        ours, theirs = Channel.pair()
        ends = [self._workers_end.socket.fileno(), theirs.socket.fileno(), self._in_progress]
        command = [sys.executable, "-c", _MAIN, *map(str, ends), str(index)]
        environment = {"GLIBC_TUNABLES": _HUGE_PAGES} | os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        # The worker reads no input and runs in a session of its own: only the service receives Ctrl-C of the terminal.
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - takes a millisecond; nothing of it is a caller's
            command, stdin=subprocess.DEVNULL, env=environment, pass_fds=ends, start_new_session=True
        )
        theirs.close()
        ours.send(self._initializer)
        ours.socket.setblocking(False)
        worker = self._workers[index] = _Worker(index, process, ours, loop.create_future())
        loop.add_reader(ours.socket, self._receive, worker)
        try:
            return await worker.ready
        except BaseException:
            process.kill()
            process.wait()
            raise

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.answers.receive()
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self._replace_dead(worker)
            return
        if not isinstance(message, Answer) or not message.number:
            settle(worker.ready, message.ran if isinstance(message, Answer) else message)
        elif job := self._jobs.pop(message.number, None):
            if job.file is not None:
                self._batches.give_back(job.file)
            job.ended(message.ran)

    def _replace_dead(self, worker: _Worker) -> None:
        """Fail the batch of a process that has ended, and start another process."""
        numbers = [number for [number] in NUMBER.iter_unpack(os.pread(self._in_progress, NUMBER.size * self.workers, 0))]
        os.pwrite(self._in_progress, bytes(NUMBER.size), NUMBER.size * worker.index)
        self._remove(worker)
        self._fail(numbers[worker.index])
        for number in self._jobs.keys() - set(numbers):
            self._resend(number)
        was_ready = worker.ready.done()
        settle(worker.ready, InferenceFailed("a process that runs the models died before it was ready"))
        if was_ready and not worker.ready.cancelled() and not worker.ready.exception() and not self._closing:
            task = asyncio.create_task(self._replace(worker), name=f"worker-{worker.index}-replacement")
            self._replacements.add(task)
            task.add_done_callback(self._replacements.discard)

    def _fail(self, number: int) -> None:
        if job := self._jobs.pop(number, None):
            if job.file is not None:
                os.close(job.file)
            job.ended(InferenceFailed("the process that ran the model has died; try again"))

    def _resend(self, number: int) -> None:
        """Resend a batch that may be lost, because a process died right after it had taken it.

        Two runs of a batch do no harm: the first answer counts. A batch that is lost twice fails: it may be the cause of death.
        """
        job = self._jobs[number]
        if job.lost:
            self._fail(number)
            return
        job.lost = True
        if job.file is not None:
            os.close(job.file)
            job.file = None
        try:
            file = self._batches.send(job.message)
        except OSError:
            self._fail(number)
        else:
            if file is not None:
                os.close(file)  # not reused: two messages may be in transit

    async def _replace(self, worker: _Worker) -> None:
        try:
            while (code := worker.process.poll()) is None:  # noqa: ASYNC110 - it is about to end; no thread waits for it
                await asyncio.sleep(_POLL_S)
        except asyncio.CancelledError:
            worker.process.wait()
            raise
        log.error("a process that runs the models has died", extra={"exit_code": code, "worker": worker.index})
        self._died()
        pause = _FIRST_PAUSE_S
        while True:
            try:
                await self._launch(worker.index)
            except Exception:
                log.exception("a process that runs the models does not start")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE_S)
            else:
                log.info("a process that runs the models was replaced", extra={"worker": worker.index})
                return

    def _remove(self, worker: _Worker) -> None:
        if self._workers.get(worker.index) is worker:
            del self._workers[worker.index]
            asyncio.get_running_loop().remove_reader(worker.answers.socket)
            worker.answers.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
