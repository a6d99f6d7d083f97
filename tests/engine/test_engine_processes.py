"""The engine over processes: the answers of the engine over threads, and a service that outlives them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import numpy as np
import psutil
import pytest

from posewire.config import load_settings
from posewire.engine.engine import Engine, load_engine
from posewire.engine.ipc import AVAILABLE
from posewire.errors import BadPicture, DeadlineExceeded, ModelError, ServiceError, TooLarge
from posewire.telemetry.metrics import Metrics
from posewire.types import Frame, PoseOptions, PoseResult, UInt8Array
from tests import sample_images
from tests.conftest import MakeEngine
from tests.engine.support import assert_same, value

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs Linux's memory files")

BOXES = np.array(
    [[60, 0, 300, 510], [0, 0, 200, 200], [100, 50, 300, 300], [10, 20, 400, 400], [5, 5, 500, 500], [50, 60, 70, 80]], np.float32
)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = load_engine(load_settings({}, max_batch=2, min_detection_score=0.5, max_pixels=4_000_000), Metrics(), processes=True)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
async def in_threads(make_engine: MakeEngine) -> AsyncIterator[Engine]:
    engine = make_engine()
    await engine.start()
    yield engine
    await engine.close()


async def test_the_answers_are_those_of_threads(engine: Engine, in_threads: Engine, astronaut: bytes, astronaut_pixels: UInt8Array) -> None:
    found, boxed = engine.settings.pose_options(), PoseOptions(0.5, 50, BOXES)
    crowd = PoseOptions(0.02, 12)  # more than are placed where the image is
    for options in (found, boxed, crowd):
        assert_same(await engine.estimate(astronaut, options), await in_threads.estimate(astronaut, options))
        assert_same(
            await engine.estimate_frame(Frame(astronaut_pixels), options), await in_threads.estimate_frame(Frame(astronaut_pixels), options)
        )
    detections, _ = await engine.detect(Frame(astronaut_pixels), found)
    expected, _ = await in_threads.detect(Frame(astronaut_pixels), found)
    np.testing.assert_allclose(detections.boxes_xyxy, expected.boxes_xyxy, atol=0.01)
    large = Frame(np.tile(astronaut_pixels, (3, 3, 1)))
    assert_same(await engine.estimate_frame(large, found), await in_threads.estimate_frame(large, found))
    timings = (await engine.estimate(astronaut, found)).timings
    assert min(timings.decode, timings.detect, timings.crop, timings.pose) > 0
    assert timings.total >= timings.decode + timings.detect + timings.crop + timings.pose
    for stage, count in (("decode", 4), ("detect", 7), ("crop", 8), ("pose", 8)):
        assert value(engine, "posewire_stage_duration_seconds_count", stage=stage) == count, stage
    assert value(engine, "posewire_batch_size_sum", model="pose") >= 4 * len(BOXES)


async def test_what_is_wrong_with_an_image_is_its_callers_news(engine: Engine, astronaut: bytes) -> None:
    options = engine.settings.pose_options()
    wrong = [
        (astronaut[:2000], options, BadPicture),
        (b"no image", options, BadPicture),
        (sample_images.encode(np.zeros((2100, 2000, 3), np.uint8), ".png"), options, TooLarge),
    ]
    answers = await asyncio.gather(
        *[engine.estimate(data, chosen) for data, chosen, _ in wrong], engine.estimate(astronaut, options), return_exceptions=True
    )
    for answer, (_, _, kind) in zip(answers, wrong, strict=False):
        assert isinstance(answer, kind)
    assert isinstance(answers[-1], PoseResult)
    with pytest.raises(ServiceError, match="lies outside"):
        await engine.estimate(astronaut, PoseOptions(0.5, 50, BOXES + 1000))
    with pytest.raises(DeadlineExceeded):
        await engine.estimate(astronaut, options, deadline=asyncio.get_running_loop().time() + 0.001)
    assert engine.ready
    assert value(engine, "posewire_inference_failures_total", model="detector") == 0


async def test_the_service_outlives_its_processes(engine: Engine, astronaut: bytes) -> None:
    options = engine.settings.pose_options()
    for _ in range(2):
        for child in psutil.Process().children():
            os.kill(child.pid, signal.SIGKILL)
        answers = await asyncio.gather(*[engine.estimate(astronaut, options) for _ in range(6)], return_exceptions=True)
        assert all(isinstance(answer, PoseResult | ServiceError) for answer in answers)
        async with asyncio.timeout(60):
            while not engine.ready:  # noqa: ASYNC110 - of other processes nothing tells
                await asyncio.sleep(0.01)
        assert len((await engine.estimate(astronaut, options)).people) == 1
    assert value(engine, "posewire_worker_deaths_total") >= 2


async def test_models_that_cannot_be_loaded_are_told_before_anything_starts() -> None:
    with pytest.raises(ModelError):
        load_engine(load_settings({}, pose="nobody-knows-it"), Metrics(), processes=True)
    assert not psutil.Process().children()


async def test_as_many_processes_as_were_asked_for() -> None:
    for workers, expected in ((1, 1), (3, 3), (0, 0)):
        engine = load_engine(load_settings({}, workers=workers, max_batch=1), Metrics(), processes=True)
        await engine.start()
        assert len(psutil.Process().children()) == expected
        await engine.close()
        assert not psutil.Process().children()
