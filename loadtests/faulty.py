"""The service with model runs that raise: `python -m loadtests.faulty --port PORT`.

The faults come through `load_engine`'s own door for another ONNX Runtime; the service's code is as it is. A route of ours
tells how many asyncio tasks there are, which nobody can see from outside.
"""

import asyncio
import os
import random
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import onnxruntime
import uvicorn
from fastapi import FastAPI

from posewire.app import create_app
from posewire.config import load_settings
from posewire.inference.engine import Engine, load_engine
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics

# Of the model runs.
FAULT_RATE = 0.01


class InjectedFaultError(RuntimeError):
    """What a faulty run raises."""


class FaultyRuntime:
    """ONNX Runtime whose runs raise now and then, once `armed` says so.

    Args:
        rate: of the runs, 0..1.
        seed: of the dice.
        armed: warm-up must succeed, or there is no service to test.
    """

    def __init__(self, rate: float, seed: int, armed: Callable[[], bool]) -> None:
        self.injected = 0
        self._rate, self._armed = rate, armed
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._lock = threading.Lock()

    def get_available_providers(self) -> Sequence[str]:
        """As ONNX Runtime's."""
        return list(onnxruntime.get_available_providers())

    def InferenceSession(self, model: bytes, /, **options: Any) -> "_Session":  # noqa: N802 - ONNX Runtime's name
        """As ONNX Runtime's."""
        return _Session(onnxruntime.InferenceSession(model, **options), self._maybe_raise)

    def _maybe_raise(self) -> None:
        with self._lock:
            if not self._armed() or self._random.random() >= self._rate:
                return
            self.injected += 1
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


def faulty_app(rate: float, seed: int = 0) -> FastAPI:
    """The application over an engine whose model runs raise at `rate` once it is ready."""
    settings = load_settings()
    engines: list[Engine] = []
    runtime = FaultyRuntime(rate, seed, lambda: bool(engines) and engines[0].ready)
    engines.append(load_engine(settings, Metrics(), runtime))
    app = create_app(settings, engines[0])

    @app.get("/loadtests/inside")
    async def inside() -> dict[str, int]:
        return {"tasks": len(asyncio.all_tasks()), "injected": runtime.injected}

    return app


if __name__ == "__main__":
    os.environ["POSEWIRE_PORT"] = sys.argv[sys.argv.index("--port") + 1]
    configure_logging("error", sys.stdout)
    uvicorn.run(faulty_app(FAULT_RATE), port=int(os.environ["POSEWIRE_PORT"]), log_config=None, access_log=False, timeout_keep_alive=75)
