"""What a process of a `ProcessPool` does; and what the two sides say to each other."""

import logging
import os
import pickle
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from posewire.engine.ipc import Mailbox
from posewire.engine.pool import Ran

In = TypeVar("In")
Out = TypeVar("Out")

log = logging.getLogger(__name__)

NUMBER: Final = struct.Struct("<q")  # of the batch that a process works on; 0: none


class Answer(NamedTuple):
    """What came of a batch; of number 0, that the process cannot begin, and why."""

    number: int
    ran: Ran[Any] | Exception


def work(batches: int, answers: int, working_on: int, index: int) -> None:
    """Run batches until the service has gone.

    Args:
        batches: descriptor of the socket that all processes of the pool read from.
        answers: descriptor of this one's own.
        working_on: descriptor of the memory file of `NUMBER`s.
        index: of this one in it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service manager sends it to everyone; the service drains first
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox, outbox = Mailbox(socket.socket(fileno=batches)), Mailbox(socket.socket(fileno=answers))
    try:
        outbox.send(outbox.receive()())
    except Exception as error:
        outbox.send(Answer(0, error))
        return
    inbox.socket.setblocking(False)
    # Of all who wait so, the kernel wakes the first in its list, and not the one that has waited longest, as it does with those who
    # block: a lone caller meets the same process, with its caches warm, every time.
    arrival = select.epoll()
    arrival.register(inbox.socket, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    place = NUMBER.size * index
    try:
        while True:
            number, function, batch = _next(inbox, arrival)
            os.pwrite(working_on, NUMBER.pack(number), place)
            file = outbox.send(Answer(number, _run(function, batch)))
            if file is not None:
                os.close(file)
            os.pwrite(working_on, bytes(NUMBER.size), place)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _next(inbox: Mailbox, arrival: select.epoll) -> Any:
    while True:
        try:
            return inbox.receive()
        except BlockingIOError:
            arrival.poll()


def _run(function: Callable[[Sequence[In]], Sequence[Out]], batch: Sequence[In]) -> Ran[Out] | Exception:
    started = time.monotonic()
    try:
        return Ran(function(batch), started, time.monotonic())
    except Exception as error:
        log.exception("a run failed")
        return _portable(error)


def _portable(error: Exception) -> Exception:
    """The error, or where it cannot be sent, its words."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
