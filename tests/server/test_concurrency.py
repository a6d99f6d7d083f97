"""Many callers at a time: images are mixed in batches, and nobody is given another's people."""

import asyncio

import numpy as np
import pytest

from posewire.engine.cost_model import CostTable
from posewire.engine.engine import Engine
from posewire.engine.gpu_scheduler import GpuScheduler
from tests.answers import numbers
from tests.sample_images import variations
from tests.server.support import JSON, MULTIPART, Gate, GatedDetector, StartApi, all_queued, images, json_body, people_of


def assert_same(found: object, expected: object) -> None:
    assert len(numbers(found)) == len(numbers(expected))
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=0, atol=1.1e-3)  # sent in thousandths of a pixel


@pytest.mark.parametrize(
    "settings", [{"batched": False}, {"batched": True, "max_batch": 4}, {"batched": True, "max_batch": 4, "batch_window_ms": 5}]
)
async def test_sixty_callers_get_what_each_gets_alone(start_api: StartApi, models: Engine, settings: dict[str, object]) -> None:
    gate = Gate()
    api = await start_api(detector=GatedDetector(models.detector, gate), workers=2, min_detection_score=0.3, **settings)
    if isinstance(scheduler := api.engine.scheduler, GpuScheduler):
        scheduler.detections.costs = scheduler.keypoints.costs = CostTable({1: 1.0, 2: 1.2, 4: 1.5})  # as on a machine where batches pay
    sent = variations(60)
    alone = [people_of(await api.post(image)) for image in sent]
    assert sum(map(len, alone)) >= 60
    assert await api.runs("detector") == 60
    with gate.shut():
        tasks = [asyncio.create_task(api.post(image)) for image in sent]
        await all_queued(api, 60)
    for answer, expected in zip(await asyncio.gather(*tasks), alone, strict=True):
        assert_same(people_of(answer), expected)
    runs = await api.runs("detector")
    assert runs < 90 if settings["batched"] else runs == 120  # in batches they share runs; on a CPU each image runs alone
    assert await api.metric("posewire_batch_size_sum", model="detector") == 120
    assert await api.metric("posewire_batch_size_sum", model="pose") == 2 * sum(map(len, alone))


async def test_images_of_one_request_are_not_mixed_up_with_those_of_others(start_api: StartApi) -> None:
    api = await start_api(max_batch=4)
    sent = variations(12)
    alone = [people_of(await api.post(image)) for image in sent]
    requests = [
        api.post(images(*sent[:5]), MULTIPART),
        api.post(json_body(*sent[5:9]), JSON),
        *[api.post(image) for image in sent[9:]],
    ]
    several, more, *single = await asyncio.gather(*requests)
    together = [people_of(several, i) for i in range(5)] + [people_of(more, i) for i in range(4)] + [people_of(a) for a in single]
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)
