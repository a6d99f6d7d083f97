"""An ONNX Runtime whose runs raise now and then. A module of its own: the service's processes import it by name."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

# Of the model runs.
FAULT_RATE = 0.01


class InjectedFaultError(RuntimeError):
    """The error of a faulty run."""


class FaultyRuntime:
    """ONNX Runtime whose runs raise now and then.

    Args:
        rate: of the runs, 0..1.
        armed: a file; without it no run raises: warm-up must succeed, or there is no service to test.
        spared_s: seconds from the opening of a model in which no run raises: a process that is started in the place of another must
            become warm as well, with some sixty runs.
    """

    def __init__(self, rate: float, armed: Path, spared_s: float = 0.0) -> None:
        self._rate, self._armed, self._spared_s = rate, armed, spared_s

    def get_available_providers(self) -> Sequence[str]:
        """As ONNX Runtime's."""
        return list(onnxruntime.get_available_providers())

    def InferenceSession(self, model: bytes, /, **options: Any) -> "_Session":  # noqa: N802 - ONNX Runtime's name
        """As ONNX Runtime's."""
        return _Session(onnxruntime.InferenceSession(model, **options), _Dice(self._rate, self._armed, self._spared_s))


class _Dice:
    def __init__(self, rate: float, armed: Path, spared_s: float) -> None:
        self._rate, self._armed = rate, armed
        self._from = time.monotonic() + spared_s
        self._random = random.Random()  # noqa: S311 - no secret; another in every process
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            fails = self._random.random() < self._rate
        if fails and time.monotonic() >= self._from and self._armed.exists():
            raise InjectedFaultError("this model run was made to fail")


class _Session:
    def __init__(self, session: Any, before: Callable[[], None]) -> None:
        self._session, self._before = session, before

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self._before()
        return self._session.run(*args, **kwargs)

    def run_with_iobinding(self, *args: Any, **kwargs: Any) -> Any:
        self._before()
        return self._session.run_with_iobinding(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
