"""Warm up a model, and measure the cost of each batch size on this machine."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, Self

import numpy as np

from posewire.engine.cost_model import WORTH, CostTable, buckets
from posewire.engine.pool import ComputePool
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_pipeline import PosePipeline
from posewire.telemetry.metrics import Task
from posewire.types import UInt8Array

log = logging.getLogger(__name__)

# Runs of one size on each worker. The minimum counts: other programs only make runs slower.
_MIN_RUNS = 3
_MAX_RUNS = 9
_SECONDS_A_SIZE = 0.15

# Runs of each kind, each after a pause, like single images that arrive one by one.
_EXCLUSIVE_RUNS = 20
_EXCLUSIVE_PAUSE_S = 0.004
# The minimum gain that justifies the second core, which spins during the run.
_EXCLUSIVE_WORTH = 1.15


@dataclass(frozen=True, slots=True)
class Profile:
    """Measured costs of the models' runs on this machine."""

    costs: Mapping[Task, CostTable]
    exclusive_pays: bool  # a single image is done sooner on more than one core
    measured_at: float  # seconds since 1970, UTC

    @classmethod
    def unmeasured(cls) -> Self:
        """Nothing is measured: items run one by one, each on one core."""
        return cls({}, exclusive_pays=False, measured_at=time.time())


class Sizes(Protocol):
    """An `InferenceSession` that runs some batch sizes as a whole, and splits others."""

    def open_size(self, size: int) -> bool:
        """Run that size as a whole from now on; return False if it cannot."""

    def close_size(self, size: int) -> None:
        """Split that size from now on."""

    def padding(self, items: int) -> int:
        """Return the number of blank items in a run of so many items."""


async def warm(pipeline: PosePipeline, pool: ComputePool, max_batch: Mapping[Task, int]) -> Mapping[Task, CostTable]:
    """Run both models in every batch size that will be used, so that no request pays for a first run.

    Args:
        pipeline: the models.
        pool: runs nothing else meanwhile.
        max_batch: items of the largest run of each model.

    Returns:
        The cost of the runs of each model.
    """
    costs: dict[Task, CostTable] = {}
    for model in (pipeline.detector, pipeline.pose):
        started = time.perf_counter()
        task, run = model.spec.task, partial(_infer_blank, model, _blank(model))
        costs[task] = table = await measure(run, model.session, pool, max_batch[task])
        fields = {
            "model": model.spec.name,
            "run_ms": {size: round(cost * 1000, 2) for size, cost in table.seconds.items()},
            "full_batch": table.full,
            "seconds": round(time.perf_counter() - started, 3),
        }
        log.info("model is warm", extra=fields)
    warm_exclusive(pipeline.detector)
    return costs


async def restore(pipeline: PosePipeline, pool: ComputePool, profile: Profile) -> Profile:
    """Make the models ready as a profile says, which is of an earlier start: each size runs once, and nothing is measured.

    Args:
        pipeline: the models.
        pool: runs nothing else meanwhile.
        profile: of these models on this machine.

    Returns:
        The profile, with the padding of the sizes that are open now.
    """
    costs: dict[Task, CostTable] = {}
    for model in (pipeline.detector, pipeline.pose):
        known, blank = profile.costs[model.spec.task], _blank(model)
        whole = tuple(size for size in known.whole if model.session.open_size(size))
        for size in (1, *whole):
            await pool.run(model.infer, partial(_repeat, blank, size))
        costs[model.spec.task] = CostTable(known.seconds, _padding(model.session, known.seconds), whole)
        log.info("model is warm", extra={"model": model.spec.name, "measured_at": round(profile.measured_at)})
    if profile.exclusive_pays:
        await pool.run(lambda _: [warm_exclusive(pipeline.detector)], lambda: [None])
    return replace(profile, costs=costs)


def _repeat(blank: UInt8Array, size: int) -> list[UInt8Array]:
    return [blank] * size


def _blank(model: Detector | PoseEstimator) -> UInt8Array:
    return np.zeros((model.spec.input.height, model.spec.input.width, 3), np.uint8)


def _infer_blank(model: Detector | PoseEstimator, blank: UInt8Array, size: int) -> None:
    model.infer([blank] * size)


def warm_exclusive(detector: Detector) -> bool:
    """Open and warm the session that runs a single image on several cores; return False if there is none."""
    ready = detector.session.open_exclusive()
    if ready:
        detector.infer([_blank(detector)], exclusive=True)
    return ready


def exclusive_pays(detector: Detector) -> bool:
    """Return True if a single image is faster on several cores. Call it after `warm`, while nothing else runs."""
    if not detector.session.open_exclusive():
        return False
    blank = _blank(detector)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for run in range(2 * _EXCLUSIVE_RUNS):
        time.sleep(_EXCLUSIVE_PAUSE_S)
        exclusive = bool(run % 2)
        started = time.perf_counter()
        detector.infer([blank], exclusive=exclusive)
        seconds[exclusive].append(time.perf_counter() - started)
    gain = min(seconds[False]) / min(seconds[True])  # other programs only make runs slower
    log.info("measured a single image on several cores", extra={"gain": round(gain, 2), "used": gain >= _EXCLUSIVE_WORTH})
    return gain >= _EXCLUSIVE_WORTH


async def measure(
    run: Callable[[int], object], sizes: Sizes, pool: ComputePool, max_batch: int, clock: Callable[[], float] = time.perf_counter
) -> CostTable:
    """Run each size with every worker busy; leave those sizes open that are faster as a whole than split.

    Stop after two sizes in a row without a gain: larger sizes are not run.

    Args:
        run: runs the model on so many items; called on a thread of the pool.
        sizes: session of the model.
        pool: runs nothing else meanwhile.
        max_batch: items of the largest size.
        clock: returns seconds.
    """
    costs: dict[int, float] = {}
    whole_sizes: list[int] = []
    lowest, without_gain = float("inf"), 0
    for size in buckets(max_batch):
        if size > 1:
            sizes.close_size(size)
        cost = await _cost(run, size, pool, clock)
        if size > 1 and sizes.open_size(size):
            whole = await _cost(run, size, pool, clock)
            if whole > cost * (1 - WORTH):
                sizes.close_size(size)
            else:
                whole_sizes.append(size)
            cost = min(cost, whole)
        without_gain = without_gain + 1 if cost / size > lowest * (1 - WORTH) else 0
        if without_gain == 2:
            sizes.close_size(size)
            whole_sizes = [known for known in whole_sizes if known != size]
            break
        costs[size] = cost
        lowest = min(lowest, cost / size)
    return CostTable(costs, _padding(sizes, costs), tuple(whole_sizes))


def _padding(sizes: Sizes, costs: Iterable[int]) -> dict[int, int]:
    """Return the blank items of each number of items that is filled up."""
    return {items: blank for items in range(1, max(costs)) if (blank := sizes.padding(items))}


async def _cost(run: Callable[[int], object], size: int, pool: ComputePool, clock: Callable[[], float]) -> float:
    """Return the minimum seconds of a run with the hand-over to the thread and back; the first run is not counted."""
    times: list[float] = []

    def of_size(items: Sequence[int]) -> Sequence[int]:
        run(len(items))
        return items

    async def worker() -> None:
        await pool.run(of_size, lambda: range(size))
        begun = clock()
        for done in range(_MAX_RUNS):
            started = clock()
            if done >= _MIN_RUNS and started - begun > _SECONDS_A_SIZE:
                break
            await pool.run(of_size, lambda: range(size))
            times.append(clock() - started)

    await asyncio.gather(*[worker() for _ in range(pool.workers)])
    return min(times)
