"""What runs in the processes of a pool: the models and all that is around them, on one core each."""

import asyncio
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from posewire.backends.device import DevicePlan, Runtime
from posewire.config import Settings
from posewire.engine.cost_model import CostTable
from posewire.engine.fair_queue import TURN
from posewire.engine.loading import load_pipeline
from posewire.engine.pool import ThreadPool
from posewire.engine.profiler import alone_pays, warm
from posewire.imaging.draw import encode
from posewire.pipeline.pose_pipeline import ImageJob, PartialResult, PosePipeline
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Task
from posewire.types import Keypoints, UInt8Array

_PICTURES = 7


class _Own:
    """Of this process."""

    stages: PosePipeline


def prepare(settings: Settings, plan: DevicePlan, runtime: Runtime | None) -> Mapping[Task, CostTable]:
    """Load the models and run them as often as it takes to warm and measure them.

    Returns:
        Of each model, what its runs cost; those of the detector with all else that `see` does for a picture of one person.
    """
    configure_logging(settings.log_level, sys.stdout)
    cv2.setNumThreads(1)  # pictures go side by side, one a process
    _Own.stages = load_pipeline(settings, plan, runtime)
    costs = asyncio.run(_measure(settings.max_batch))
    rest = _seconds_of_a_picture(settings) - costs["detector"].seconds[1]
    return {**costs, "detector": costs["detector"].more(an_item=max(0.0, rest) + costs["pose"].seconds[1])}


async def _measure(max_batch: int) -> Mapping[Task, CostTable]:
    pool = ThreadPool(1)
    costs = await warm(_Own.stages, pool, max_batch)
    await pool.close()
    return costs


def _seconds_of_a_picture(settings: Settings) -> float:
    """What `see` takes for a picture as cameras send it, with nobody on it."""
    picture = ImageJob(encode(np.full((480, 640, 3), 114, np.uint8), "image/jpeg"), settings.pose_options())
    seconds = []
    for _ in range(_PICTURES):
        started = time.perf_counter()
        see([picture])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def alone_pays_here(_: Sequence[None]) -> list[bool]:
    """As `alone_pays`."""
    return [alone_pays(_Own.stages.detector)]


def see(pictures: Sequence[ImageJob]) -> list[PartialResult | Exception]:
    """As `PosePipeline.run`; the few people of a usual picture are placed at once, those of a crowd take turns with all others."""
    return _Own.stages.run(pictures, TURN)


def place(crops: Sequence[UInt8Array]) -> list[Keypoints | Exception]:
    """As `PosePipeline.estimate_keypoints`."""
    return [*_Own.stages.estimate_keypoints(crops)]


def echo(items: Sequence[bytes]) -> list[Exception | None]:
    """Nothing, for each: it takes the way here and back."""
    return [None for _ in items]
