"""A model that keeps failing is told by /readyz, and is tried until it works."""

import asyncio

import httpx
import pytest

from posewire.engine.engine import Engine
from tests.server.streaming import Listen, acknowledge, message
from tests.server.support import JPEG, Api, Gate, GatedDetector, GatedPose, StartApi, assert_problem, eventually, people_of


async def ready(api: Api) -> bool:
    return (await api.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("broken", ["detector", "pose"])
async def test_a_model_that_keeps_failing_turns_readiness_red_until_a_run_works(
    start_api: StartApi, models: Engine, astronaut: bytes, broken: str
) -> None:
    gate = Gate()
    model = {"detector": GatedDetector(models.detector, gate)} if broken == "detector" else {"pose": GatedPose(models.pose, gate)}
    api = await start_api(**model)
    gate.error = RuntimeError("the device is lost")
    for sent in range(5):
        assert await ready(api), f"after {sent} failures"
        assert_problem(await api.post(astronaut), 500, "inference-failed")
    assert_problem(await api.client.get("/readyz"), 503, "not-ready", f"{broken} model keep failing")
    assert await api.metric("posewire_ready") == 0
    assert (await api.client.get("/livez")).status_code == 200  # a restart may not help, and it may come back
    gate.error = None

    async def works_again() -> bool:
        return await ready(api)

    await eventually(works_again)  # with no request from anybody
    assert len(people_of(await api.post(astronaut))) == 1
    assert await api.metric("posewire_inference_failures_total", model=broken) >= 5


async def test_a_failure_between_others_that_work_changes_nothing(start_api: StartApi, models: Engine, astronaut: bytes) -> None:
    gate = Gate()
    api = await start_api(detector=GatedDetector(models.detector, gate))
    for _ in range(8):
        gate.error = RuntimeError("now and then")
        assert_problem(await api.post(astronaut), 500, "inference-failed")
        gate.error = None
        for _ in range(2):
            people_of(await api.post(astronaut))
        assert await ready(api)


async def test_a_service_whose_model_fails_stops_in_time(start_api: StartApi, models: Engine, astronaut: bytes) -> None:
    gate = Gate()
    api = await start_api(pose=GatedPose(models.pose, gate))
    gate.error = RuntimeError("for good")
    await asyncio.gather(*[api.post(astronaut) for _ in range(6)])
    assert not await ready(api)
    await asyncio.wait_for(api.engine.close(), 20)


async def test_a_stream_begins_though_a_model_fails_and_each_frame_tells(
    listen: Listen, models: Engine, gate: Gate, astronaut: bytes
) -> None:
    server = await listen(detector=GatedDetector(models.detector, gate))
    gate.error = RuntimeError("now and then")
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        for _ in range(5):
            assert_problem(await client.post("/v1/pose", content=astronaut, headers=JPEG), 500, "inference-failed")
        assert_problem(await client.get("/readyz"), 503, "not-ready", "keep failing")
    async with server.stream() as stream:  # as a request it is tried: the next run may work
        await stream.send(astronaut)
        failed = await message(stream)
        assert (failed["type"], failed["problem"]["type"]) == ("error", "urn:posewire:problem:inference-failed")
        gate.error = None
        await acknowledge(stream, failed["seq"])
        await stream.send(astronaut)
        assert (await message(stream))["type"] == "result"
