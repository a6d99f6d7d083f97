"""`posewire doctor`: report what is installed and which device is used, and test that the models run."""

import asyncio
import json
import platform
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

import cv2

from posewire import __version__
from posewire.backends.cpu_limit import cpu_limit
from posewire.backends.runtime import onnx_runtime
from posewire.config import Settings
from posewire.engine.cost_model import CostTable
from posewire.engine.engine import Engine, load_engine
from posewire.errors import PosewireError
from posewire.native.library import load_kernels
from posewire.telemetry.metrics import Metrics, Task


def doctor(settings: Settings, *, as_json: bool) -> int:
    """Print the findings; return 1 if the service cannot start."""
    findings: dict[str, object] = {
        "posewire": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "onnxruntime": _installed("onnxruntime", "onnxruntime-gpu") or "not installed",
        "opencv": cv2.__version__,
        "providers": _providers(),
        "kernels": _kernels(),
        "cores": cpu_limit(),
    }
    fault = _error_of(lambda: _check_engine(settings, findings))
    findings["verdict"] = fault or "ok: the service would start"
    if as_json:
        print(json.dumps({**findings, "ok": fault is None}, indent=2))
    else:
        width = max(map(len, findings))
        for name, finding in findings.items():
            print(f"{name:<{width}}  {finding}")
    return int(fault is not None)


def _check_engine(settings: Settings, findings: dict[str, object]) -> None:
    engine = load_engine(settings, Metrics())
    findings["device"] = f"{engine.plan.device} ({engine.plan.reason}), {engine.plan.workers} runs side by side"
    findings["pair"] = engine.pair or "none: the models were chosen separately, or are the manifest's defaults"
    measured, measured_at = asyncio.run(_measure(engine))
    when = datetime.fromtimestamp(measured_at).astimezone().isoformat(" ", "minutes")
    for model in engine.models:
        costs = measured[model.spec.task]
        runs = ", ".join(f"{size} in {seconds * 1000:.1f} ms" for size, seconds in costs.seconds.items())
        findings[model.spec.task] = (
            f"{model.spec.name} ({model.weights.file}) on {model.provider}; runs of {runs}, measured {when}; a full batch is {costs.full}"
        )


async def _measure(engine: Engine) -> tuple[Mapping[Task, CostTable], float]:
    """Start the engine, which runs the models, and stop it; return the costs of runs, and when they were measured, in seconds since 1970.

    The costs are those of an earlier start if there was one on this machine.
    """
    await engine.start()
    costs, measured_at = engine.costs, engine.measured_at
    await engine.close()
    assert measured_at is not None
    return costs, measured_at


def _providers() -> str:
    try:
        return ", ".join(onnx_runtime().get_available_providers())
    except PosewireError as error:
        return str(error)


def _kernels() -> str:
    try:
        return f"built, {load_kernels().level} is used on a CPU"
    except PosewireError as error:
        return str(error)


def _error_of(check: Callable[[], None]) -> str | None:
    try:
        check()
    except PosewireError as error:
        return str(error)
    return None


def _installed(*packages: str) -> str:
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
