"""Profiles of earlier starts, in files: a start does not measure what was measured on this machine before.

A file holds one profile and everything that it depends on. A file that is damaged, too old, or of another machine, version, model or
setting is ignored, and the start measures again. It also does if the machine was much busier when the profile was measured. GPUs are
left out: their first run of each size takes most of the time, and is needed.
"""

import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from posewire import __version__
from posewire.backends.cpu_limit import cpu_limit
from posewire.backends.device import DevicePlan
from posewire.config import Settings
from posewire.engine.cost_model import CostTable, buckets
from posewire.engine.profiler import Profile
from posewire.errors import PosewireError
from posewire.files import UnreadableFile, make_folder, read_plain, write_atomically
from posewire.pipeline.pose_pipeline import PosePipeline
from posewire.telemetry.metrics import Task

log = logging.getLogger(__name__)

Identity = Mapping[str, str | int | bool | Sequence[str]]

# A measurement on a busy machine is wrong. It is used no longer than this.
MAX_AGE_S: Final = 7 * 86_400.0

_MAX_FILE_BYTES: Final = 65_536
_MAX_RUN_S: Final = 600.0

# What tells processors apart in /proc/cpuinfo, on x86 and on ARM. https://man7.org/linux/man-pages/man5/proc_cpuinfo.5.html
_CPU_FIELDS: Final = (
    *("vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"),
)

Seconds = Annotated[float, Field(gt=0, lt=_MAX_RUN_S)]


class _Costs(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    seconds: dict[str, Seconds]  # by the size of the run; the names of a JSON object are text
    whole: list[int]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    identity: dict[str, str | int | bool | list[str]]
    measured_at: float
    load: Annotated[float, Field(ge=0)]  # of the machine at that time: processes that ran or waited, the mean of a minute
    exclusive_pays: bool
    costs: dict[Task, _Costs]


class ProfileCache:
    """The file of one profile.

    Args:
        folder: of all profiles; made if it is missing.
        identity: everything that the profile depends on.
        max_batch: items of the largest run.
    """

    def __init__(self, folder: Path, identity: Identity, max_batch: int) -> None:
        self._identity = json.loads(json.dumps(identity))
        self._max_batch = max_batch
        self._load = _load()  # before this start adds to it
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{digest[:16]}.json"

    def load(self) -> Profile | None:
        """Return the profile; None: there is none that can be used."""
        try:
            content = read_plain(self.path, _MAX_FILE_BYTES)
        except UnreadableFile:
            return None
        try:
            return self._profile(_File.model_validate_json(content))
        except ValueError as error:  # a ValidationError, or of `_profile`
            why = "it is damaged" if isinstance(error, ValidationError) else str(error)
            log.info("a profile is measured again", extra={"file": str(self.path), "reason": why})
            return None

    def _profile(self, found: _File) -> Profile:
        """Return the profile of a file.

        Raises:
            ValueError: it cannot be used; the message says why.
        """
        if found.identity != self._identity:
            raise ValueError("it is of another machine, version, model or setting")
        if not 0 <= time.time() - found.measured_at <= MAX_AGE_S:
            raise ValueError("it is too old, or the clock was set back")
        if found.load > 1.5 * self._load + 0.5 * (os.cpu_count() or 1):
            raise ValueError("the machine was much busier when it was measured")
        sizes = {str(size): size for size in buckets(self._max_batch)}
        for costs in found.costs.values():
            if "1" not in costs.seconds or not costs.seconds.keys() <= sizes.keys() or not set(costs.whole) <= set(sizes.values()) - {1}:
                raise ValueError("its sizes are not those of this service")
        if found.costs.keys() != {"detector", "pose"}:
            raise ValueError("it is not of a detector and a pose model")
        tables = {
            task: CostTable({sizes[size]: seconds for size, seconds in costs.seconds.items()}, whole=tuple(costs.whole))
            for task, costs in found.costs.items()
        }
        return Profile(tables, found.exclusive_pays, found.measured_at)

    def save(self, profile: Profile) -> None:
        """Write the profile, completely or not at all. A folder that cannot be written is no error: the next start measures again."""
        costs = {
            task: _Costs(seconds={str(size): cost for size, cost in table.seconds.items()}, whole=list(table.whole))
            for task, table in profile.costs.items()
        }
        content = _File(
            identity=self._identity, measured_at=profile.measured_at, load=self._load, exclusive_pays=profile.exclusive_pays, costs=costs
        ).model_dump_json(indent=2)
        try:
            make_folder(self.path.parent)
            write_atomically(self.path, content.encode())
        except PosewireError as error:
            log.info("the profile is not kept", extra={"reason": str(error)})


def identity_of(pipeline: PosePipeline, plan: DevicePlan, settings: Settings, *, processes: bool) -> Identity:
    """Return everything that the cost of a run depends on: the machine, the versions, the models, and the settings that matter."""
    models = (pipeline.detector.spec, pipeline.pose.weights)
    return {
        "posewire": __version__,
        "onnxruntime": _version("onnxruntime"),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": cpu_limit(),
        "cores_of_machine": os.cpu_count() or 1,
        "models": [model.sha256 for model in models],
        "inputs": [str(model.spec.input.model_dump(mode="json")) for model in (pipeline.detector, pipeline.pose)],
        "providers": [model.session.provider for model in (pipeline.detector, pipeline.pose)],
        "processes": processes,
        "plan": str(asdict(plan) | {"reason": None}),
        "max_batch": settings.max_batch,
        "decoding": settings.decoding.value,
        "flip_test": settings.flip_test,
    }


def _load() -> float:
    """Return the load of the machine: the mean of a minute; 0 where the system does not tell it."""
    if sys.platform == "win32":  # it has none
        return 0.0
    try:
        return os.getloadavg()[0]
    except OSError:
        return 0.0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@cache
def _cpu() -> str:
    """Return a text that differs between models of processors."""
    try:
        first = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    known = {name: fields[name] for name in _CPU_FIELDS if name in fields}
    name = known.get("model name") or platform.processor() or platform.machine()
    return f"{name}, {hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}"
