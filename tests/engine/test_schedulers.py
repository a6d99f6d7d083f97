"""Every scheduler through the engine: the same answers, priorities, deadlines, failures and metrics."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest

from posewire.config import load_settings
from posewire.engine.engine import Engine, load_engine
from posewire.engine.ipc import AVAILABLE
from posewire.errors import BadPicture, DeadlineExceeded, Draining, InferenceFailed, Overloaded
from posewire.telemetry.metrics import Metrics
from posewire.types import Frame, PoseOptions, PoseResult, Priority, UInt8Array
from tests.conftest import MakeEngine
from tests.engine.support import assert_same, value
from tests.server.support import Gate, GatedDetector, GatedPose

BOXES = np.array([[60, 0, 300, 510], [0, 0, 200, 200], [100, 50, 300, 300], [10, 20, 400, 400], [5, 5, 500, 500]], np.float32)
FOUND, BOXED, CROWD = PoseOptions(0.5, 10), PoseOptions(0.5, 10, BOXES), PoseOptions(0.02, 12)

StartScheduler = Callable[..., Awaitable[Engine]]


@pytest.fixture(params=["processes", "threads", "batches"])
async def engine(request: pytest.FixtureRequest, make_engine: MakeEngine) -> AsyncIterator[Engine]:
    """An engine over each of the schedulers: worker processes, threads on a CPU, and a GPU's batches over the CPU plan."""
    if request.param == "processes":
        if not AVAILABLE:
            pytest.skip("needs Linux's memory files")
        settings = load_settings({}, device="cpu", workers=1, max_batch=2, min_detection_score=0.5)
        engine = load_engine(settings, Metrics(), processes=True)
    else:
        engine = make_engine(max_batch=2, batched=request.param == "batches")
    await engine.start()
    yield engine
    await engine.close()


async def test_the_answers_are_those_of_the_pipeline_itself(engine: Engine, models: Engine, astronaut: bytes) -> None:
    for options in (FOUND, BOXED, CROWD):
        results = await asyncio.gather(*[engine.estimate(astronaut, options) for _ in range(3)])
        for result in results[1:]:
            assert_same(result, results[0])
    assert len((await engine.estimate(astronaut, BOXED)).people) == len(BOXES)


async def test_metrics_mean_the_same(engine: Engine, astronaut: bytes, astronaut_pixels: UInt8Array) -> None:
    result = await engine.estimate(astronaut, FOUND)
    await engine.estimate(astronaut, BOXED)
    await engine.estimate_frame(Frame(astronaut_pixels), FOUND)
    await engine.detect(Frame(astronaut_pixels), FOUND)
    for stage, count in (("decode", 2), ("detect", 3), ("crop", 3), ("pose", 3)):
        assert value(engine, "posewire_stage_duration_seconds_count", stage=stage) == count, stage
    assert value(engine, "posewire_batch_size_sum", model="detector") == 3
    assert value(engine, "posewire_batch_size_sum", model="pose") == 2 + len(BOXES)
    assert value(engine, "posewire_run_duration_seconds_count", model="detector") == 3
    for model in ("detector", "pose"):
        runs = value(engine, "posewire_batch_size_count", model=model)
        assert value(engine, "posewire_run_duration_seconds_count", model=model) == runs
        assert value(engine, "posewire_inference_failures_total", model=model) == 0
    in_models = sum(value(engine, "posewire_run_duration_seconds_sum", model=model) for model in ("detector", "pose"))
    assert value(engine, "posewire_worker_busy_seconds_total") >= in_models > 0
    timings = result.timings
    assert min(timings.decode, timings.detect, timings.crop, timings.pose) > 0
    assert timings.total >= timings.decode + timings.queue + timings.crop + timings.pose
    assert value(engine, "posewire_pictures_total", outcome="ok") == 3


async def test_a_stage_that_did_not_run_is_not_observed(engine: Engine) -> None:
    nobody = Frame(np.full((240, 320, 3), 128, np.uint8))
    assert (await engine.estimate_frame(nobody, FOUND)).people == ()
    for stage, count in (("decode", 0), ("detect", 1), ("crop", 0), ("pose", 0)):
        assert value(engine, "posewire_stage_duration_seconds_count", stage=stage) == count, stage
    assert value(engine, "posewire_batch_size_count", model="pose") == 0


async def test_a_bad_image_fails_alone_and_no_model_is_blamed(engine: Engine, astronaut: bytes) -> None:
    bad = [engine.estimate(data, FOUND) for data in (astronaut[:2000], b"no image")]
    *failed, good = await asyncio.gather(*bad, engine.estimate(astronaut, FOUND), return_exceptions=True)
    assert [type(error) for error in failed] == [BadPicture, BadPicture]
    assert isinstance(good, PoseResult)
    assert not engine.failing
    assert value(engine, "posewire_inference_failures_total", model="detector") == 0
    assert value(engine, "posewire_pictures_total", outcome="failed") == 2
    assert engine.pending == 0


async def test_a_deadline_that_has_passed_costs_no_run(engine: Engine, astronaut: bytes) -> None:
    with pytest.raises(DeadlineExceeded):
        await engine.estimate(astronaut, FOUND, deadline=asyncio.get_running_loop().time() - 1)
    assert value(engine, "posewire_batch_size_count", model="detector") == 0


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest(engine: Engine, astronaut: bytes) -> None:
    accepted = [asyncio.create_task(engine.estimate(astronaut, FOUND)) for _ in range(5)]
    while engine.pending < 5:  # noqa: ASYNC110 - an image is accepted in some turns of the event loop
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing = asyncio.create_task(engine.close())
    answers = await asyncio.gather(*accepted)
    await closing
    assert all(len(answer.people) == 1 for answer in answers)
    with pytest.raises((Draining, RuntimeError)):
        await engine.estimate(astronaut, FOUND)
    assert not engine.alive
    assert not engine.ready


@pytest.fixture
async def gated(make_engine: MakeEngine, models: Engine, gate: Gate) -> AsyncIterator[Engine]:
    """One worker on a CPU, whose detector is behind the gate."""
    engine = make_engine(detector=GatedDetector(models.detector, gate), workers=1, max_in_flight=4, max_streams=0)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_streams_run_before_bulk_that_came_earlier(gated: Engine, gate: Gate, astronaut: bytes) -> None:
    order: list[str] = []

    async def estimate(name: str, priority: Priority) -> None:
        await gated.estimate(astronaut, FOUND, priority=priority)
        order.append(name)

    with gate.shut():
        tasks = []
        for name in ("first", "second", "bulk", "stream"):
            tasks.append(asyncio.create_task(estimate(name, Priority.STREAM if name == "stream" else Priority.BULK)))
            await asyncio.sleep(0)
        assert gated.pending == 4
    await asyncio.gather(*tasks)
    assert order == ["first", "second", "stream", "bulk"]  # the first two were in hand


async def test_images_whose_callers_gave_up_never_run(gated: Engine, gate: Gate, astronaut: bytes) -> None:
    with gate.shut():
        first = asyncio.create_task(gated.estimate(astronaut, FOUND))
        await gate.someone_waits()
        others = [asyncio.create_task(gated.estimate(astronaut, FOUND)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        soon = asyncio.get_running_loop().time() + 0.01
        with pytest.raises(DeadlineExceeded):
            await gated.estimate(astronaut, FOUND, deadline=soon)
    assert len((await first).people) == 1
    assert len((await gated.estimate(astronaut, FOUND)).people) == 1
    assert value(gated, "posewire_batch_size_count", model="detector") == 2


async def test_a_full_queue_refuses(gated: Engine, gate: Gate, astronaut: bytes) -> None:
    with gate.shut():
        tasks = [asyncio.create_task(gated.estimate(astronaut, FOUND)) for _ in range(6)]  # two in hand, four in the queue
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await gated.estimate(astronaut, FOUND)
    assert [len(result.people) for result in await asyncio.gather(*tasks)] == [1] * 6


@pytest.mark.parametrize("batched", [False, True])
async def test_the_model_that_raised_is_counted_and_the_other_one_is_not(
    make_engine: MakeEngine, models: Engine, astronaut: bytes, gate: Gate, batched: bool
) -> None:
    engine = make_engine(pose=GatedPose(models.pose, gate), batched=batched)
    await engine.start()
    gate.error = RuntimeError("broken")
    for _ in range(5):
        with pytest.raises(InferenceFailed):
            await engine.estimate(astronaut, FOUND)
    assert engine.failing == ["pose"]
    assert value(engine, "posewire_inference_failures_total", model="pose") >= 5
    assert value(engine, "posewire_inference_failures_total", model="detector") == 0
    assert value(engine, "posewire_run_duration_seconds_count", model="detector") >= 5
    gate.error = None
    async with asyncio.timeout(20):
        while engine.failing:  # noqa: ASYNC110 - the recovery tells nobody else
            await asyncio.sleep(0.01)
    await engine.close()


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("broken", ["detector", "pose"])
async def test_a_model_that_is_out_of_memory_is_no_fault_of_the_image(
    make_engine: MakeEngine, models: Engine, astronaut: bytes, gate: Gate, batched: bool, broken: str
) -> None:
    model = GatedDetector(models.detector, gate) if broken == "detector" else GatedPose(models.pose, gate)
    engine = make_engine(**{broken: model}, batched=batched)
    await engine.start()
    gate.error = MemoryError()
    with pytest.raises(InferenceFailed):
        await engine.estimate(astronaut, FOUND)
    gate.error = None
    assert len((await engine.estimate(astronaut, FOUND)).people) == 1
    await engine.close()
