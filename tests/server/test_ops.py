"""What operators ask: alive, ready, which models, how it goes."""

import tomllib
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from posewire.config import load_settings
from posewire.engine.cost_model import CostTable
from posewire.engine.gpu_scheduler import GpuScheduler
from posewire.registry.store import default_root
from posewire.server.app import create_app
from tests.conftest import MakeEngine
from tests.registry.downloads import POSE_NAME, make_store, other_pose, pair
from tests.server.support import Api, StartApi, assert_problem, people_of

READINESS = ("/readyz", "/healthz")


async def test_a_running_service_is_alive_and_ready(api: Api) -> None:
    assert (await api.client.get("/livez")).json() == {"status": "ok"}
    for path in READINESS:
        answer = await api.client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert await api.metric("posewire_ready") == 1


async def test_before_and_after_its_life_it_is_not_ready(make_engine: MakeEngine, astronaut: bytes) -> None:
    engine = make_engine()
    app = create_app(engine.settings, engine)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://posewire") as client:

        async def readiness() -> set[int]:
            return {(await client.get(path)).status_code for path in READINESS}

        assert await readiness() == {503}
        async with app.router.lifespan_context(app):
            assert await readiness() == {200}
        assert await readiness() == {503}
        assert_problem(await client.get("/readyz"), 503, "not-ready", "not served")
        assert "posewire_ready 0.0" in (await client.get("/metrics")).text


async def test_before_its_models_are_loaded_it_is_alive_but_answers_nothing(astronaut: bytes) -> None:
    app = create_app(load_settings({}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://posewire") as client:
        assert (await client.get("/livez")).status_code == 200
        assert_problem(await client.get("/readyz"), 503, "not-ready")
        assert (await client.get("/v1/models")).json()["models"] == []
        answer = await client.post("/v1/pose", content=astronaut, headers={"Content-Type": "image/jpeg"})
        assert_problem(answer, 503, "not-ready", "not loaded yet")
        assert answer.headers["Retry-After"] == "1"


async def test_the_lifespan_loads_what_the_settings_name(astronaut: bytes) -> None:
    app = create_app(load_settings({}, device="cpu", threads=1, max_batch=1))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://p") as client:
        assert (await client.get("/readyz")).status_code == 200
        loaded = (await client.get("/v1/models")).json()
        assert (loaded["device"], loaded["workers"]) == ("cpu", 1)
        assert people_of(await client.post("/v1/pose", content=astronaut, headers={"Content-Type": "image/jpeg"}))


@pytest.mark.parametrize(("chosen", "told"), [({"models": "both"}, "both"), ({"models": "both", "pose": "other-pose"}, None), ({}, None)])
async def test_the_models_in_use_are_told_with_their_pair(tmp_path: Path, chosen: dict[str, str], told: str | None) -> None:
    store = make_store(tmp_path / "store", other_pose(), pair("both"))
    app = create_app(load_settings({}, model_store=store, cache_dir=tmp_path, device="cpu", threads=1, max_batch=1, **chosen))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://p") as client:
        answer = (await client.get("/v1/models")).json()
    assert answer["pair"] == told
    assert answer["models"][1]["name"] == chosen.get("pose", POSE_NAME)


async def test_while_it_drains_it_still_answers_but_sends_callers_elsewhere(api: Api, astronaut: bytes) -> None:
    assert "Connection" not in (await api.post(astronaut)).headers
    api.services.drain.set()
    for path in READINESS:
        assert_problem(await api.client.get(path), 503, "not-ready", "stopping")
    assert (await api.client.get("/livez")).status_code == 200
    answer = await api.post(astronaut)
    assert len(people_of(answer)) == 1
    assert answer.headers["Connection"] == "close"
    assert (await api.post(b"")).headers["Connection"] == "close"
    assert await api.metric("posewire_ready") == 0


@pytest.mark.parametrize("model", ["detector", "pose"])
async def test_a_dead_queue_is_told_by_livez(start_api: StartApi, make_engine: MakeEngine, astronaut: bytes, model: str) -> None:
    api = await start_api(batched=True)

    class Broken(CostTable):
        def take(self, waiting: int, workers: int) -> int:
            raise ZeroDivisionError

    scheduler = api.engine.scheduler
    assert isinstance(scheduler, GpuScheduler)
    if model == "detector":
        scheduler.detections.costs = Broken({1: 0.01})
    else:
        scheduler.keypoints.costs = Broken({1: 0.01})
    assert_problem(await api.post(astronaut), 500, "inference-failed", "ended")
    assert_problem(await api.client.get("/livez"), 503, "dead", "restart")
    assert_problem(await api.client.get("/readyz"), 503, "not-ready")
    assert_problem(await api.post(astronaut), 500, "inference-failed", "restarted")
    assert await api.in_flight() == 0


async def test_the_models_are_those_of_the_manifest(api: Api) -> None:
    manifest = tomllib.loads((default_root() / "manifest.toml").read_text())
    entries = {entry["name"]: entry for entry in manifest["models"]}
    answer = (await api.client.get("/v1/models")).json()
    assert answer.keys() == {"device", "device_reason", "workers", "pair", "models"}
    assert (answer["device"], answer["workers"]) == (api.engine.plan.device.value, api.engine.plan.workers)
    assert answer["device_reason"]
    assert [(m["task"], m["name"]) for m in answer["models"]] == [(task, manifest["defaults"][task]) for task in ("detector", "pose")]
    providers = {model.spec.name: model.provider for model in api.engine.models}
    for model in answer["models"]:
        entry = entries[model["name"]]
        stored = {part["file"]: part["sha256"] for part in (entry, entry.get("kernels")) if part}
        assert model["sha256"] == stored[model["file"]]
        for key in ("title", "licence", "task"):
            assert model[key] == entry[key]
        assert (model["input_height"], model["input_width"]) == (entry["input"]["height"], entry["input"]["width"])
        assert model["provider"] == providers[model["name"]]
    detector, pose = answer["models"]
    assert detector["keypoints"] is detector["skeleton"] is None
    assert len(pose["keypoints"]) == 17
    assert all(0 <= end < 17 for limb in pose["skeleton"] for end in limb)


@pytest.mark.parametrize("batched", [False, True])
async def test_metrics_tell_of_a_request_and_all_its_stages(start_api: StartApi, astronaut: bytes, batched: bool) -> None:
    api = await start_api(min_detection_score=0.5, batched=batched)
    people_of(await api.post(astronaut))
    answer = await api.client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"posewire_request_duration_seconds", "posewire_build_info", "process_resident_memory_bytes"} <= names
    for stage in ("decode", "detect", "crop", "pose", "encode"):
        assert await api.metric("posewire_stage_duration_seconds_count", stage=stage) == 1
        assert await api.metric("posewire_stage_duration_seconds_sum", stage=stage) > 0
    for model in ("detector", "pose"):
        assert await api.metric("posewire_batch_size_sum", model=model) == 1
        waits = 1 if batched or model == "detector" else 0  # on a CPU an image waits once, for its first model
        assert await api.metric("posewire_queue_wait_seconds_count", model=model) == waits
        assert await api.metric("posewire_inference_failures_total", model=model) == 0
    assert await api.metric("posewire_people_per_picture_sum") == 1
    assert await api.metric("posewire_pictures_total", outcome="ok") == 1
    assert await api.metric("posewire_request_duration_seconds_count", route="/v1/pose", method="POST", status="200") == 1
    assert await api.metric("posewire_rejections_total") == 0


async def test_metrics_name_the_loaded_models() -> None:
    app = create_app(load_settings({}, device="cpu", max_batch=1))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://p") as client:
        models = (await client.get("/v1/models")).json()["models"]
        families = text_string_to_metric_families((await client.get("/metrics")).text)
        told = [s.labels for family in families for s in family.samples if s.name == "posewire_model_info"]
    for model in models:
        expected = {k: model[k] for k in ("task", "name", "provider")} | {"sha256": model["sha256"][:12]}
        assert expected in told
    assert len(told) == 2
