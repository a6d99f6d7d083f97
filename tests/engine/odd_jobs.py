"""What the processes of a pool under test do; found there by its name."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewire.engine.worker import CpuBudget
from posewire.errors import BadPicture
from posewire.types import UInt8Array


def begin() -> int:
    """An initializer: who it is."""
    return os.getpid()


def begin_badly() -> int:
    raise ValueError("no models here")


def begin_never() -> int:
    while True:
        time.sleep(1)


def begin_stopped_at_second(path: Path) -> int:
    """The first process begins; the second is stopped before it can; all later ones begin."""
    with path.open("a+") as starts:
        starts.write("x")
        starts.seek(0)
        if starts.read() == "xx":
            starts.flush()
            os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()


class Unportable(Exception):
    """Cannot be sent: it holds a lock, and wants two arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")
        self.lock = threading.Lock()


def who(items: Sequence[Any]) -> list[int]:
    return [os.getpid() for _ in items]


def negate(items: Sequence[UInt8Array]) -> list[UInt8Array]:
    return [np.asarray(255 - item, np.uint8) for item in items]


def double(items: Sequence[int]) -> list[int | Exception]:
    return [2 * item if item >= 0 else BadPicture("it is negative", image=3) for item in items]


def fail(_: Sequence[Any]) -> list[Any]:
    raise Unportable("inner", "secret")


def die(_: Sequence[Any]) -> list[Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    return []


def wait_for(items: Sequence[Path]) -> list[int]:
    """Note who waits in a file, and wait until a second one is there."""
    for path in items:
        path.write_text(str(os.getpid()), encoding="ascii")
        gate = path.with_suffix(".go")
        while not gate.exists():
            time.sleep(0.005)
    return who(items)


def never_end(items: Sequence[Path]) -> list[Any]:
    """Note each run in a file, and do not come back."""
    for path in items:
        with path.open("a") as runs:
            runs.write("x")
    while True:
        time.sleep(1)


def burn(seconds: Sequence[float]) -> list[float]:
    """Use CPU time within a budget of 0.2 s, and return how much it was."""
    used = []
    for wanted in seconds:
        begun = time.process_time()
        with CpuBudget(0.2):
            while time.process_time() - begun < wanted:
                pass
        used.append(time.process_time() - begun)
    return used


def burn_later(seconds: Sequence[float]) -> list[float]:
    """Use CPU time after a budget that was not used up."""
    with CpuBudget(0.2):
        pass
    begun = time.process_time()
    while time.process_time() - begun < sum(seconds):
        pass
    return list(seconds)


def allocate(sizes: Sequence[int]) -> list[int]:
    return [np.empty(size, np.uint8).size for size in sizes]
