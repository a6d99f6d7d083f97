"""SIGTERM and SIGHUP end a command like Ctrl-C: it completes or removes what it writes, and exits with 128 + the signal's number."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from functools import partial
from types import FrameType

from posewire.signals import STOP_SIGNALS, handle_signal, stop_signals


class Stopped(SystemExit):
    """A signal stopped the command; it passes through `asyncio` and the command line's parser like the end of the process."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number  # of the process, as a shell counts
        super().__init__(self.status)


def exit_at_signals() -> None:
    """Raise `Stopped` in the main thread at SIGTERM and SIGHUP, so that files are removed by whoever writes them."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


@contextlib.contextmanager
def cancelled_at_signals() -> Iterator[None]:
    """Cancel the running task at SIGTERM and SIGHUP, and raise `Stopped` in its place. A second signal changes nothing."""
    task = asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def cancel(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    restores = [handle_signal(number, partial(cancel, number)) for number in stop_signals()]
    try:
        yield
    except asyncio.CancelledError:
        if received:
            raise Stopped(received[0]) from None
        raise
    finally:
        for restore in restores:
            restore()
