import re
import time
from itertools import pairwise

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from posewire import errors
from posewire.telemetry.metrics import Metrics

EXPECTED = {
    "posewire_request_duration_seconds": "histogram",
    "posewire_stage_duration_seconds": "histogram",
    "posewire_queue_wait_seconds": "histogram",
    "posewire_batch_size": "histogram",
    "posewire_people_per_picture": "histogram",
    "posewire_pictures_in_flight": "gauge",
    "posewire_pictures": "counter",
    "posewire_rejections": "counter",
    "posewire_inference_failures": "counter",
    "posewire_run_cost_seconds": "gauge",
    "posewire_streams_active": "gauge",
    "posewire_frames_received": "counter",
    "posewire_frames_dropped": "counter",
    "posewire_frame_age_seconds": "histogram",
    "posewire_model_info": "gauge",
    "posewire_build_info": "gauge",
    "posewire_ready": "gauge",
    "posewire_run_duration_seconds": "histogram",
    "posewire_event_loop_lag_seconds": "histogram",
    "posewire_pictures_in_flight_limit": "gauge",
    "posewire_workers": "gauge",
    "posewire_worker_deaths": "counter",
    "posewire_device_fallback": "gauge",
}


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(metrics.render()[0].decode())}


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    """The one sample of that name whose labels are exactly these."""
    found = [s.value for f in families(metrics).values() for s in f.samples if s.name == name and s.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.fixture
def busy() -> Metrics:
    """Metrics with every series in use."""
    metrics = Metrics()
    metrics.observe_request("/v1/pose", "POST", 200, 0.02)
    metrics.set_run_costs("pose", {1: 0.004, 4: 0.012})
    metrics.set_model("pose", "litehrnet18", "0123456789abcdef" * 4, "CPUExecutionProvider")
    return metrics


def test_every_metric_of_ours_is_there_with_its_type(busy: Metrics) -> None:
    ours = {name: family.type for name, family in families(busy).items() if name.startswith("posewire_")}
    assert ours == EXPECTED


def test_names_follow_the_rules_of_prometheus(busy: Metrics) -> None:
    for line in busy.render()[0].decode().splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            assert re.fullmatch(r"(posewire|process|python)_[a-z0-9_]+", name)
            assert name.endswith("_total") == (kind == "counter"), name
            assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent|created)$", name), name
    for family in families(busy).values():
        if family.name.startswith("posewire_"):
            assert family.documentation.endswith(".")
            if family.name.endswith("_info"):
                assert {s.value for s in family.samples} == {1.0}


def test_no_label_or_name_carries_a_client_or_a_model(busy: Metrics) -> None:
    ours = [f for f in families(busy).values() if f.name.startswith("posewire_")]
    labels = {label for f in ours for s in f.samples for label in s.labels}
    allowed = {
        "route",
        "method",
        "status",
        "stage",
        "model",
        "size",
        "outcome",
        "reason",
        "cause",
        "task",
        "name",
        "sha256",
        "provider",
        "version",
        "le",
    }
    assert labels == allowed
    assert not [f.name for f in ours if "litehrnet" in f.name]


def test_the_process_and_the_platform_are_on_the_same_page(busy: Metrics) -> None:
    assert {"process_cpu_seconds", "python_info", "python_gc_collections"} <= families(busy).keys()


def test_known_series_are_zero_from_the_start() -> None:
    metrics = Metrics()
    for stage in ("decode", "detect", "crop", "pose", "encode"):
        assert value(metrics, "posewire_stage_duration_seconds_count", stage=stage) == 0
    for model in ("detector", "pose"):
        assert value(metrics, "posewire_queue_wait_seconds_count", model=model) == 0
        assert value(metrics, "posewire_batch_size_count", model=model) == 0
        assert value(metrics, "posewire_inference_failures_total", model=model) == 0
    for outcome in ("ok", "failed"):
        assert value(metrics, "posewire_pictures_total", outcome=outcome) == 0
    assert value(metrics, "posewire_ready") == 0
    assert value(metrics, "posewire_pictures_in_flight") == 0


@pytest.mark.parametrize(
    "error",
    [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.ServiceError)],
    ids=lambda e: e.slug,
)
def test_a_rejection_counts_under_its_slug_and_exists_before(error: type[errors.ServiceError]) -> None:
    metrics = Metrics()
    assert value(metrics, "posewire_rejections_total", reason=error.slug) == 0
    metrics.count_rejection(error)
    metrics.count_rejection(error("what was wrong"))
    assert value(metrics, "posewire_rejections_total", reason=error.slug) == 2


def test_requests_are_timed_by_route_method_and_status() -> None:
    metrics = Metrics()
    metrics.observe_request("/v1/pose", "POST", 503, 0.3)
    metrics.observe_request("/v1/pose", "POST", 503, 0.1)
    name, labels = "posewire_request_duration_seconds", {"route": "/v1/pose", "method": "POST", "status": "503"}
    assert value(metrics, f"{name}_count", **labels) == 2
    assert value(metrics, f"{name}_sum", **labels) == pytest.approx(0.4)
    assert value(metrics, f"{name}_bucket", le="0.2", **labels) == 1


def test_a_client_cannot_make_series() -> None:
    metrics = Metrics()
    for word in ("BREW", "PROPFIND", "X" * 1000):
        metrics.observe_request(None, word, 404, 0.001)
    assert value(metrics, "posewire_request_duration_seconds_count", route="unmatched", method="other", status="404") == 3


def test_latency_buckets_go_from_a_millisecond_to_half_a_minute() -> None:
    families_ = families(Metrics())
    samples = families_["posewire_stage_duration_seconds"].samples
    bounds = [float(s.labels["le"]) for s in samples if s.name.endswith("_bucket") and s.labels["stage"] == "pose"]
    assert (bounds[0], bounds[-2], bounds[-1]) == (0.001, 30.0, float("inf"))
    assert all(1.5 <= b / a <= 3 for a, b in pairwise(bounds[:-1]))


def test_stages_queues_batches_and_people_are_observed() -> None:
    metrics = Metrics()
    metrics.observe_stage("crop", 0.004)
    metrics.batches("detector").waited(0.25)
    metrics.batches("pose").started(16)
    metrics.observe_people(3)
    assert value(metrics, "posewire_stage_duration_seconds_sum", stage="crop") == 0.004
    assert value(metrics, "posewire_queue_wait_seconds_sum", model="detector") == 0.25
    assert value(metrics, "posewire_batch_size_bucket", model="pose", le="8.0") == 0
    assert value(metrics, "posewire_batch_size_bucket", model="pose", le="16.0") == 1
    assert value(metrics, "posewire_people_per_picture_bucket", le="2.0") == 0
    assert value(metrics, "posewire_people_per_picture_bucket", le="3.0") == 1


def test_a_stage_is_timed_even_if_it_fails() -> None:
    metrics = Metrics()

    def encode() -> None:
        with metrics.time_stage("encode"):
            time.sleep(0.02)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        encode()
    assert value(metrics, "posewire_stage_duration_seconds_count", stage="encode") == 1
    total = value(metrics, "posewire_stage_duration_seconds_sum", stage="encode")
    assert total is not None
    assert 0.02 <= total < 5


def test_pictures_in_flight_go_down_again_even_after_a_failure() -> None:
    metrics = Metrics()
    with metrics.pictures_in_flight(4):
        with metrics.pictures_in_flight():
            assert value(metrics, "posewire_pictures_in_flight") == 5
        with pytest.raises(RuntimeError), metrics.pictures_in_flight():
            raise RuntimeError
        assert value(metrics, "posewire_pictures_in_flight") == 4
    assert value(metrics, "posewire_pictures_in_flight") == 0


def test_outcomes_and_failures_are_counted() -> None:
    metrics = Metrics()
    metrics.count_picture(ok=True)
    metrics.count_picture(ok=False)
    metrics.count_picture(ok=False)
    metrics.batches("detector").failed()
    assert value(metrics, "posewire_pictures_total", outcome="ok") == 1
    assert value(metrics, "posewire_pictures_total", outcome="failed") == 2
    assert value(metrics, "posewire_inference_failures_total", model="detector") == 1


def test_what_runs_is_told() -> None:
    metrics = Metrics(version="1.2.3")
    metrics.set_model("detector", "persondet-320", "ab" * 32, "CUDAExecutionProvider")
    metrics.set_ready(True)
    labels = {"task": "detector", "name": "persondet-320", "sha256": "abababababab", "provider": "CUDAExecutionProvider"}
    assert value(metrics, "posewire_model_info", **labels) == 1
    assert value(metrics, "posewire_build_info", version="1.2.3") == 1
    assert value(metrics, "posewire_ready") == 1
    metrics.set_ready(False)
    assert value(metrics, "posewire_ready") == 0


def test_every_run_of_a_model_is_timed() -> None:
    metrics = Metrics()
    metrics.batches("pose").ran(0.25)
    metrics.batches("pose").ran(0.5)
    assert value(metrics, "posewire_run_duration_seconds_sum", model="pose") == 0.75
    assert value(metrics, "posewire_run_duration_seconds_count", model="detector") == 0


def test_capacity_and_fallback_are_told() -> None:
    metrics = Metrics()
    metrics.set_limits(workers=3, pictures=64)
    metrics.set_device_fallback(True)
    assert value(metrics, "posewire_workers") == 3
    assert value(metrics, "posewire_pictures_in_flight_limit") == 64
    assert value(metrics, "posewire_device_fallback") == 1


def test_who_accepts_openmetrics_gets_it(busy: Metrics) -> None:
    body, media_type = busy.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert media_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert b"_created" not in body
    parsed = openmetrics_families(body.decode())  # type: ignore[no-untyped-call]
    assert {family.name for family in parsed} == families(busy).keys()


def test_two_apps_in_one_process_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.count_picture(ok=True)
    assert value(other, "posewire_pictures_total", outcome="ok") == 0


def test_the_page_is_prometheus_text_without_created_series(busy: Metrics) -> None:
    body, media_type = busy.render()
    assert media_type.startswith("text/plain; version=0.0.4")
    assert b"_created" not in body
    assert body.endswith(b"\n")
