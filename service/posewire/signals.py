"""Signals that stop a program, on every system: Windows has fewer of them, and its event loop takes none."""

import asyncio
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

# A service manager sends SIGTERM, a terminal that closes sends SIGHUP. Windows sends neither to a program.
STOP_SIGNALS: Final[tuple[int, ...]] = tuple(int(number) for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)))


def stop_signals() -> tuple[int, ...]:
    """Return the signals of `STOP_SIGNALS` that this process does not ignore: `nohup` makes it ignore SIGHUP."""
    return tuple(number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)


def handle_signal(number: int, callback: Callable[[], object]) -> Callable[[], None]:
    """Call `callback` on the running event loop at a signal; return a function that restores the handler from before.

    To be called on the main thread.
    """
    loop, before = asyncio.get_running_loop(), signal.getsignal(number)
    try:
        loop.add_signal_handler(number, callback)
    except NotImplementedError:  # Windows
        signal.signal(number, partial(_call_soon, loop, callback))
        return lambda: _restore(number, before)

    def restore() -> None:
        loop.remove_signal_handler(number)
        _restore(number, before)

    return restore


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], object], _: int, __: FrameType | None) -> None:
    loop.call_soon_threadsafe(callback)


def _restore(number: int, handler: object) -> None:
    signal.signal(number, handler)  # type: ignore[arg-type] # what `getsignal` returned
