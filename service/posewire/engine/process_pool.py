"""Worker processes that run models. The service survives the death of a worker, and replaces one that is stuck.

All workers read from one socket: a free worker takes the next batch. Each answers on a socket of its own. If a worker dies, the
batch that it ran fails, and another worker is started. When the service ends, even by SIGKILL, its workers read the end of
the socket and end too.

Each worker notes in a memory file which batch it runs, and since when. Four times a second the pool looks at every worker. One
is late if the deadline of its batch has passed, or if the system has stopped it (SIGSTOP), with or without a batch. The pool is
not ready while all are late. A worker that is late for two seconds is stuck: it is killed, which works on a stopped process
too, and replaced. The checks are counted, not the seconds: nothing is stuck after a pause of the whole container.

The batch of a stuck worker is not run again, because it may be the cause. Batches that no worker has taken wait in the socket
for the others. At the death of a worker the pool reads them back and sends them again; so it learns which batch the dead worker
may have taken without a note, and sends that again too.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

assert sys.platform == "linux"  # mypy skips the rest elsewhere, where nothing imports this module

from posewire.engine.ipc import Channel
from posewire.engine.pool import ComputePool, Ended, Ran, settle
from posewire.engine.worker import NOTE, Answer
from posewire.errors import BadPicture, DeadlineExceeded, InferenceFailed, ServiceError

In = TypeVar("In")
Out = TypeVar("Out")

log = logging.getLogger(__name__)

# Seconds between attempts to replace a worker. The first attempt is made at once.
_FIRST_PAUSE_S = 0.1
_LAST_PAUSE_S = 5.0
_POLL_S = 0.01

# Seconds for a process to end by itself.
_END_S = 1.0

# Seconds for a process to start and to run its initializer.
START_S = 120.0

# Seconds between two looks at the workers, and how long a worker is late before it is killed.
_CHECK_S = 0.25
_GRACE_S = 2.0

# Seconds that a batch may always run, whatever its deadline: a client that wants its answer within milliseconds does not make a
# worker late. It is longer than the decoding of an image may take.
_MIN_RUN_S = 6.0

# Weights and feature maps in pages of 2 MB where the system offers them (`madvise`).
# https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html; other C libraries ignore it.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"

_DIED = "the process that ran the model has died; try again"
_LONG = "the image takes too long to decode; save it again, as a baseline JPEG"

_MAIN = "import sys; from posewire.engine.worker import work; work(*map(int, sys.argv[1:]))"


@dataclass(slots=True)
class _Job:
    message: tuple[int, Callable[[Sequence[Any]], Sequence[Any]], Sequence[Any]]  # number, function, batch
    ended: Ended[Any]
    deadline: float | None  # seconds, monotonic
    file: int | None  # the memory file of the batch
    lost: bool = False  # a worker may have died with it before it noted that it had taken it


@dataclass(slots=True)
class _Worker:
    index: int
    process: subprocess.Popen[bytes]
    answers: Channel
    ready: asyncio.Future[Any]  # what its initializer returned
    late: int = 0  # checks in a row that found it late
    overdue: bool = False  # it was killed because of its batch

    @property
    def able(self) -> bool:
        """True if it can run a batch: it has started, and is not late."""
        return self.started and not self.late

    @property
    def started(self) -> bool:
        """True if its initializer has returned."""
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None


class ProcessPool(ComputePool):
    """A pool of processes instead of threads: functions and batches of `run` are pickled, functions by their names.

    Args:
        workers: processes.
        initializer: called in each process before its first run; `start` returns its results. Pickled. Processes that are started later
            take the attribute of this name.
        died: called for each process that dies while the pool is open.
        timeout_s: how long a batch without a deadline may run.
        start_s: how long a process may take until its initializer has returned.
    """

    def __init__(
        self,
        workers: int,
        initializer: Callable[[], Any],
        died: Callable[[], None] = lambda: None,
        *,
        timeout_s: float = 10.0,
        start_s: float = START_S,
    ) -> None:
        super().__init__(workers)
        self.initializer = initializer
        self._died = died
        self._timeout_s = timeout_s
        self._start_s = start_s
        self._jobs: dict[int, _Job] = {}
        self._numbers = count(1)
        self._workers: dict[int, _Worker] = {}
        self._watch: asyncio.Task[None] | None = None
        self._replacements: set[asyncio.Task[None]] = set()
        self._closing = False
        self._batches, self._workers_end = Channel.pair()
        self._batches.socket.setblocking(False)
        self._workers_end.socket.setblocking(False)
        self._in_progress = os.memfd_create("posewire-in-progress")
        os.pwrite(self._in_progress, bytes(NOTE.size * workers), 0)

    @property
    def ready(self) -> bool:
        """True if at least one process can run batches: it is neither starting, nor stopped, nor late with its batch."""
        return any(worker.able for worker in self._workers.values())

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes."""
        return [worker.process.pid for worker in self._workers.values()]

    async def start(self) -> list[Any]:
        """Start all processes at the same time; return the results of their initializers.

        Raises:
            Exception: an initializer raised it; no process is left.
            InferenceFailed: a process died, or was not ready in time; no process is left.
        """
        self._watch = asyncio.create_task(self._check_forever(), name="worker-watch")
        launches = [asyncio.create_task(self._launch(index)) for index in range(self.workers)]
        try:
            return await asyncio.gather(*launches)
        except BaseException:
            for launch in launches:
                launch.cancel()
            await asyncio.gather(*launches, return_exceptions=True)
            await self.close()
            raise

    def begin(
        self,
        function: Callable[[Sequence[In]], Sequence[Out]],
        items: Callable[[], Sequence[In]],
        ended: Ended[Out],
        deadline: float | None = None,
    ) -> None:
        """Run `function`, which is pickled by its name, on the next free process.

        `ended` gets `InferenceFailed` if that process dies, `DeadlineExceeded` if it is stuck, and `BadPicture` if it has decoded for
        too long.
        """
        batch = items()
        if not batch:
            now = time.monotonic()
            asyncio.get_running_loop().call_soon(ended, Ran((), now, now))
            return
        number = next(self._numbers)
        message = (number, function, batch)
        self._jobs[number] = _Job(message, ended, deadline, self._batches.send(message))

    async def close(self) -> None:
        """Give the processes a second to finish the batches that they run, and end them."""
        self._closing = True
        tasks = [*self._replacements, *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._take_back()  # nobody runs them any more
        self._batches.close()
        self._workers_end.close()
        workers = list(self._workers.values())
        await asyncio.gather(*[asyncio.to_thread(_end, worker.process) for worker in workers])
        for worker in workers:
            while worker in self._workers.values():
                self._receive(worker)  # its last answers may be unread; the worker is removed at the end of the channel
        while self._jobs:
            self._jobs.popitem()[1].ended(InferenceFailed("the service is stopping"))
        if self._in_progress >= 0:
            os.close(self._in_progress)
            self._in_progress = -1

    async def _launch(self, index: int) -> Any:
        """Start a process and wait until it is ready; return the result of its initializer.

        Raises:
            Exception: the initializer raised it, and the process is ended.
            InferenceFailed: the process died, or was not ready in time; it is ended.
        """
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
        ours.send(self.initializer)
        ours.socket.setblocking(False)
        worker = self._workers[index] = _Worker(index, process, ours, loop.create_future())
        loop.add_reader(ours.socket, self._receive, worker)
        try:
            async with asyncio.timeout(self._start_s):
                return await worker.ready
        except TimeoutError:
            raise InferenceFailed(f"a process that runs the models was not ready within {self._start_s:g} seconds") from None
        finally:
            if not worker.started:
                process.kill()
                process.wait()

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            notes = self._notes()
            for worker in self._workers.values():
                self._check(worker, *notes[worker.index])

    def _check(self, worker: _Worker, number: int, begun: float) -> None:
        """Count the checks that find a process late, and kill it if it is stuck."""
        stopped = _is_stopped(worker.process.pid)
        worker.late = worker.late + 1 if stopped or (number and time.monotonic() > self._due(number, begun)) else 0
        if worker.late * _CHECK_S > _GRACE_S:
            log.error("a process that runs the models is stuck; it is killed", extra={"worker": worker.index, "stopped": stopped})
            worker.overdue = not stopped
            worker.process.kill()

    def _due(self, number: int, begun: float) -> float:
        """Return when the process that runs a batch is late, in seconds, monotonic."""
        job = self._jobs.get(number)
        if job is None or job.deadline is None:
            return begun + self._timeout_s
        return max(job.deadline, begun + min(_MIN_RUN_S, self._timeout_s))

    def _notes(self) -> list[tuple[int, float]]:
        """Return the number of the batch that each process runs, 0 for none, and when it began it, in seconds, monotonic."""
        return list(NOTE.iter_unpack(os.pread(self._in_progress, NOTE.size * self.workers, 0)))

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
        """Send the other batches again after the death of a process, fail its own, and start another process."""
        notes = self._notes()
        os.pwrite(self._in_progress, bytes(NOTE.size), NOTE.size * worker.index)
        self._remove(worker)
        own = self._jobs.pop(notes[worker.index][0], None)
        if self._closing:
            self._fail(own, InferenceFailed("the service is stopping"))
        else:
            self._resend({number for number, _ in notes})
            task = asyncio.create_task(self._bury(worker, own, replace=worker.started), name=f"worker-{worker.index}-replacement")
            self._replacements.add(task)
            task.add_done_callback(self._replacements.discard)
        settle(worker.ready, InferenceFailed("a process that runs the models died before it was ready"))

    def _fail(self, job: _Job | None, error: ServiceError) -> None:
        if job is not None:
            if job.file is not None:
                os.close(job.file)
            job.ended(error)

    def _resend(self, running: Collection[int]) -> None:
        """Send all batches again that no process runs.

        A batch that is not in the socket any more has been taken by a process that did not note it. That may be the dead one. Two
        runs of a batch do no harm: the first answer counts. A batch that is lost twice fails: it may be the cause of death.
        """
        waiting = self._take_back()
        for number in sorted(self._jobs.keys() - running):
            job = self._jobs[number]
            if number not in waiting and job.lost:
                self._fail(self._jobs.pop(number), InferenceFailed(_DIED))
                continue
            job.lost = job.lost or number not in waiting
            if job.file is not None:
                os.close(job.file)
                job.file = None
            try:
                file = self._batches.send(job.message)
            except OSError:
                self._fail(self._jobs.pop(number), InferenceFailed(_DIED))
                continue
            if file is None or not job.lost:
                job.file = file
            else:
                os.close(file)  # not reused: two messages may be in transit

    def _take_back(self) -> set[int]:
        """Read the batches that no process has taken; return their numbers."""
        numbers: set[int] = set()
        with suppress(EOFError, OSError):  # the socket is empty, or closed
            while True:
                numbers.add(self._workers_end.receive()[0])
        return numbers

    async def _bury(self, worker: _Worker, own: _Job | None, *, replace: bool) -> None:
        """Wait until a process has ended, fail the batch that it ran, and start another process."""
        error: ServiceError = InferenceFailed(_DIED)
        try:
            while (code := worker.process.poll()) is None:  # noqa: ASYNC110 - it is about to end; no thread waits for it
                await asyncio.sleep(_POLL_S)
            if worker.overdue:
                error = DeadlineExceeded("the model run did not end in time")
            elif code == -signal.SIGPROF:
                error = BadPicture(_LONG)
        except asyncio.CancelledError:
            worker.process.wait()
            raise
        finally:
            self._fail(own, error)
        if not replace:
            return
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


def _is_stopped(pid: int) -> bool:
    """Return True if a signal such as SIGSTOP has stopped a process. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b") ")[2].startswith(b"T")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
