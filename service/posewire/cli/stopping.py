"""SIGTERM and SIGHUP end a command like Ctrl-C: it completes or removes what it writes, and exits with 128 + the signal's number."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

# A signal that the caller ignores stays ignored: `nohup` does this with SIGHUP. Windows sends neither.
_SIGNALS = () if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)


class Stopped(SystemExit):
    """A signal stopped the command; it passes through `asyncio` and the command line's parser like the end of the process."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number  # of the process, as a shell counts
        super().__init__(self.status)


def exit_at_signals() -> None:
    """Raise `Stopped` in the main thread at SIGTERM and SIGHUP, so that files are removed by whoever writes them."""
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


@contextlib.contextmanager
def cancelled_at_signals() -> Iterator[None]:
    """Cancel the running task at SIGTERM and SIGHUP, and raise `Stopped` in its place. A second signal changes nothing."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    received: list[int] = []

    def cancel(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    before = {number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        loop.add_signal_handler(number, cancel, number)
    try:
        yield
    except asyncio.CancelledError:
        if received:
            raise Stopped(received[0]) from None
        raise
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
