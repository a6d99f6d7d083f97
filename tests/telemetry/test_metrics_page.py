"""The page of metrics: names, labels, bounds and formats."""

import re
from itertools import pairwise

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from posewire.telemetry.metrics import Metrics
from tests.telemetry.samples import families, value

EXPECTED = {
    "posewire_request_duration_seconds": "histogram",
    "posewire_stage_duration_seconds": "histogram",
    "posewire_queue_wait_seconds": "histogram",
    "posewire_batch_size": "histogram",
    "posewire_people_per_picture": "histogram",
    "posewire_pictures_in_flight": "gauge",
    "posewire_body_bytes_in_flight": "gauge",
    "posewire_pictures": "counter",
    "posewire_rejections": "counter",
    "posewire_inference_failures": "counter",
    "posewire_run_cost_seconds": "gauge",
    "posewire_streams_active": "gauge",
    "posewire_tracks_active": "gauge",
    "posewire_padding_items": "counter",
    "posewire_frames_answered": "counter",
    "posewire_frames_received": "counter",
    "posewire_frames_dropped": "counter",
    "posewire_frame_age_seconds": "histogram",
    "posewire_model_info": "gauge",
    "posewire_build_info": "gauge",
    "posewire_ready": "gauge",
    "posewire_run_duration_seconds": "histogram",
    "posewire_worker_busy_seconds": "counter",
    "posewire_event_loop_lag_seconds": "histogram",
    "posewire_pictures_in_flight_limit": "gauge",
    "posewire_body_bytes_in_flight_limit": "gauge",
    "posewire_connections_open": "gauge",
    "posewire_connections_limit": "gauge",
    "posewire_streams_limit": "gauge",
    "posewire_pixel_wait_seconds": "histogram",
    "posewire_workers": "gauge",
    "posewire_worker_deaths": "counter",
    "posewire_device_fallback": "gauge",
    "posewire_camera_frames": "counter",
    "posewire_camera_reconnects": "counter",
    "posewire_camera_state": "gauge",
    "posewire_camera_last_frame_timestamp_seconds": "gauge",
}


@pytest.fixture
def busy() -> Metrics:
    """Metrics with every series in use."""
    metrics = Metrics()
    camera = metrics.camera("door")
    camera.set_state("live")
    camera.count_frames("ok")
    camera.count_reconnect()
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
        "limit",
        "cause",
        "detector",
        "task",
        "name",
        "sha256",
        "provider",
        "version",
        "le",
        "camera",  # of the operator; their number is limited
        "state",
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
    ("name", "first", "last", "usual", "thresholds"),
    [
        ("posewire_request_duration_seconds", 0.005, 30.0, (0.01, 0.1), {0.5}),
        ("posewire_stage_duration_seconds", 0.0005, 2.0, (0.001, 0.02), set()),
        ("posewire_run_duration_seconds", 0.0005, 2.0, (0.001, 0.02), set()),
        ("posewire_queue_wait_seconds", 0.0005, 2.0, (0.001, 0.02), {0.25}),
        ("posewire_frame_age_seconds", 0.0005, 2.0, (0.001, 0.02), {0.5}),
    ],
)
def test_bounds_are_close_where_values_lie_and_where_alerts_are(
    name: str, first: float, last: float, usual: tuple[float, float], thresholds: set[float]
) -> None:
    [bounds] = [metric.bounds for metric in Metrics().catalogue() if metric.name == name]
    assert (bounds[0], bounds[-1]) == (first, last)
    assert all(1 < b / a <= 3 for a, b in pairwise(bounds))
    assert all(b / a <= 2 for a, b in pairwise(bounds) if usual[0] <= a < usual[1])
    assert thresholds <= set(bounds)


def test_who_accepts_openmetrics_gets_it(busy: Metrics) -> None:
    body, media_type = busy.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert media_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert b"_created" not in body
    parsed = openmetrics_families(body.decode())  # type: ignore[no-untyped-call]
    assert {family.name for family in parsed} == families(busy).keys()


def test_two_apps_in_one_process_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.count_image(ok=True)
    assert value(other, "posewire_pictures_total", outcome="ok") == 0


def test_the_page_is_prometheus_text_without_created_series(busy: Metrics) -> None:
    body, media_type = busy.render()
    assert media_type.startswith("text/plain; version=0.0.4")
    assert b"_created" not in body
    assert body.endswith(b"\n")


def test_a_camera_that_is_removed_leaves_no_series() -> None:
    metrics = Metrics()
    camera = metrics.camera("door")
    camera.set_state("connecting")
    camera.set_state("live")
    camera.count_frames("dropped", 3)
    assert 'camera="door"' in metrics.render()[0].decode()
    camera.remove()
    assert 'camera="door"' not in metrics.render()[0].decode()
