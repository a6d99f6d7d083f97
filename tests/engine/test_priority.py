"""Live streams and bulk in one queue, and decoded frames beside encoded images."""

import asyncio

import numpy as np
import pytest

from posewire.engine.engine import Engine
from posewire.errors import BadParameter, DeadlineExceeded
from posewire.types import Frame, PoseOptions, Priority, UInt8Array
from tests.conftest import MakeEngine
from tests.pipeline.doubling import Doubler, Numbers, begin, outputs, serving
from tests.server.support import Gate, GatedDetector


async def streamed(batcher: Numbers, *items: int) -> list[int]:
    return [served.output for served in await batcher.submit(items, priority=Priority.STREAM)]


async def test_streams_are_run_first_and_bulk_is_not_starved() -> None:
    model = Doubler(held=True)
    async with serving(model, max_batch=4) as batcher:
        calls = await begin(outputs(batcher, 0))
        await model.running()
        calls += await begin(*(outputs(batcher, item) for item in (1, 2)))
        calls += await begin(*(streamed(batcher, item) for item in range(11, 20)))
        model.gate.set()
        await asyncio.gather(*calls)
    order = [item for batch in model.batches for item in batch]
    assert order.index(19) > order.index(1)
    assert [item for item in order if item > 10] == list(range(11, 20))
    assert order.index(2) <= 12


async def test_a_crowd_does_not_hold_up_a_lone_person() -> None:
    model = Doubler(held=True)
    async with serving(model, max_batch=4) as batcher:
        calls = await begin(outputs(batcher, *range(50)))
        await model.running()
        calls += await begin(outputs(batcher, 100))
        model.gate.set()
        await asyncio.gather(*calls)
    assert any(100 in batch for batch in model.batches[:4])


async def test_a_decoded_frame_gets_what_its_image_gets(make_engine: MakeEngine, astronaut: bytes, astronaut_pixels: UInt8Array) -> None:
    engine = make_engine()
    await engine.start()
    options = PoseOptions(0.5, 5)
    boxes = PoseOptions(0.5, 5, np.array([[66, 1, 302, 510]], np.float32))
    for chosen in (options, boxes):
        encoded = await engine.estimate(astronaut, chosen)
        decoded = await engine.estimate_frame(Frame(astronaut_pixels), chosen, priority=Priority.STREAM)
        assert len(encoded.people) == len(decoded.people) == 1
        np.testing.assert_allclose(decoded.people[0].keypoints.xy, encoded.people[0].keypoints.xy, atol=1e-2)
    outside = PoseOptions(0.5, 5, np.array([[600, 1, 30, 30]], np.float32))
    with pytest.raises(BadParameter, match="outside"):
        await engine.estimate_frame(Frame(astronaut_pixels), outside)
    await engine.close()


async def test_a_frame_s_deadline_is_kept_while_the_model_is_stuck(
    make_engine: MakeEngine, models: Engine, astronaut_pixels: UInt8Array
) -> None:
    gate = Gate()
    engine = make_engine(detector=GatedDetector(models.detector, gate))
    await engine.start()
    soon = asyncio.get_running_loop().time() + 0.05
    with gate.shut(), pytest.raises(DeadlineExceeded):
        await engine.estimate_frame(Frame(astronaut_pixels), PoseOptions(0.5, 5), deadline=soon)
    await engine.close()
