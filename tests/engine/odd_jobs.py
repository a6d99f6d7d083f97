"""What the processes of a pool under test do; found there by its name."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewire.errors import BadPicture
from posewire.types import UInt8Array


def begin() -> int:
    """An initializer: who it is."""
    return os.getpid()


def begin_badly() -> int:
    raise ValueError("no models here")


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
