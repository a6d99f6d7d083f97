"""What is around every request: ids, traces, log lines, paths that are not there, faults of ours."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from posewire.engine.engine import Engine
from posewire.telemetry.logs import JsonFormatter
from tests.server.support import JPEG, Api, Gate, GatedDetector, GatedPose, StartApi, assert_problem, people_of

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service logs, as it is written in production."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("posewire")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def entries(log: io.StringIO, message: str) -> list[dict[str, Any]]:
    return [entry for entry in map(json.loads, log.getvalue().splitlines()) if entry["message"] == message]


@pytest.mark.parametrize("given", ["abc-123", "a", "A.b_c:d/e+f=g-h", "x" * 128])
async def test_a_sane_request_id_is_kept(api: Api, astronaut: bytes, log: io.StringIO, given: str) -> None:
    answer = await api.post(astronaut, {"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"] == given
    assert [entry["request_id"] for entry in entries(log, "request")] == [given]


@pytest.mark.parametrize("given", ["", "x" * 129, "x" * 1000, "a\nb", "a\r\nSet-Cookie: b", "a b", "<script>", '"', "\x00", "a\x1b[31m"])
async def test_a_hostile_request_id_is_replaced(api: Api, log: io.StringIO, given: str) -> None:
    answers = [await api.client.get("/v1/models", headers={"X-Request-Id": given}) for _ in range(2)]
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert ids[0] != ids[1]
    assert all(len(i) == 32 and i.isalnum() for i in ids)
    assert [entry["request_id"] for entry in entries(log, "request")] == ids
    assert "Set-Cookie" not in answers[0].headers


async def test_a_problem_carries_the_caller_s_id(api: Api) -> None:
    answer = await api.post(b"", {"X-Request-Id": "mine"})
    assert_problem(answer, 400, "bad-picture")
    assert answer.json()["request_id"] == "mine"


async def test_a_request_s_log_line(api: Api, astronaut: bytes, log: io.StringIO) -> None:
    await api.post(astronaut, {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, max_people=1)
    [entry] = entries(log, "request")
    assert entry.items() >= {"level": "info", "method": "POST", "route": "/v1/pose", "status": 200, "trace_id": TRACE}.items()
    assert entry["ms"] > 0
    assert "max_people" not in log.getvalue()


@pytest.mark.parametrize(
    "traceparent", ["", "nonsense", f"00-{TRACE}", f"00-{TRACE.upper()}-b7ad6b7169203331-01", f"00-{TRACE}-b7ad6b7169203331-01\n"]
)
async def test_what_is_no_trace_is_not_logged(api: Api, log: io.StringIO, traceparent: str) -> None:
    await api.client.get("/v1/models", headers={"traceparent": traceparent})
    [entry] = entries(log, "request")
    assert "trace_id" not in entry


async def test_probes_are_quiet_unless_they_fail(api: Api, log: io.StringIO) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/metrics"):
        assert (await api.client.get(path)).status_code == 200
    assert entries(log, "request") == []
    api.services.drain.set()
    await api.client.get("/readyz")
    [entry] = entries(log, "request")
    assert (entry["route"], entry["status"]) == ("/readyz", 503)


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/docs/static/%2e%2e/%2e%2e/app.py", 404, "not-found"),
        ("POST", "/v1/pose/", 404, "not-found"),
        ("GET", "/v1/pose", 405, "method-not-allowed"),
        ("PUT", "/v1/pose", 405, "method-not-allowed"),
        ("POST", "/livez", 405, "method-not-allowed"),
        ("DELETE", "/v1/models", 405, "method-not-allowed"),
    ],
)
async def test_paths_and_methods_that_are_not_there(api: Api, method: str, path: str, status: int, slug: str) -> None:
    answer = await api.client.request(method, path)
    assert_problem(answer, status, slug)
    if status == 405:
        assert answer.headers["Allow"]


async def test_unknown_paths_make_no_series_of_their_own(api: Api) -> None:
    for i in range(3):
        await api.client.get(f"/scan/{i}")
    assert await api.metric("posewire_request_duration_seconds_count", route="unmatched", status="404") == 3
    assert "scan" not in (await api.client.get("/metrics")).text


@pytest.mark.parametrize("broken", ["detector", "pose"])
async def test_a_model_that_fails_is_a_problem_and_the_next_request_works(
    start_api: StartApi, models: Engine, astronaut: bytes, log: io.StringIO, broken: str
) -> None:
    gate = Gate()
    detector = GatedDetector(models.detector, gate) if broken == "detector" else None
    pose = GatedPose(models.pose, gate) if broken == "pose" else None
    api = await start_api(detector=detector, pose=pose)
    gate.error = ValueError("secret of the model")
    answer = await api.post(astronaut)
    assert_problem(answer, 500, "inference-failed", "try again")
    assert "secret" not in answer.text
    assert "secret of the model" in log.getvalue()
    assert await api.metric("posewire_inference_failures_total", model=broken) == 1
    assert await api.metric("posewire_rejections_total", reason="inference-failed") == 1
    gate.error = None
    assert len(people_of(await api.post(astronaut))) == 1
    assert await api.metric("posewire_pictures_total", outcome="failed") == 1
    assert await api.metric("posewire_pictures_total", outcome="ok") == 1
    assert await api.in_flight() == 0


async def test_a_bug_of_ours_is_told_to_the_log_alone(
    api: Api, astronaut: bytes, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buggy(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(api.engine, "estimate", buggy)
        answer = await api.client.post("/v1/pose", content=astronaut, headers=JPEG | {"X-Request-Id": "the-bug"})
    assert_problem(answer, 500, "internal", "under the request id")
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == "the-bug"
    [entry] = entries(log, "unhandled error")
    assert (entry["level"], entry["request_id"]) == ("error", "the-bug")
    assert "RuntimeError: secret" in entry["exception"]
    assert [e["status"] for e in entries(log, "request")] == [500]
    assert await api.metric("posewire_rejections_total", reason="internal") == 1
    assert await api.in_flight() == 0
    assert len(people_of(await api.post(astronaut))) == 1
