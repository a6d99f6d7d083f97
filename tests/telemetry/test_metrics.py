"""What is counted and timed."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from posewire import errors
from posewire.telemetry.metrics import Metrics
from tests.telemetry.samples import value


@pytest.mark.parametrize(
    "error",
    [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.ServiceError) and e is not errors.Overloaded],
    ids=lambda e: e.slug,
)
def test_a_rejection_counts_under_its_slug_and_exists_before(error: type[errors.ServiceError]) -> None:
    metrics = Metrics()
    assert value(metrics, "posewire_rejections_total", reason=error.slug, limit="") == 0
    metrics.count_rejection(error("what was wrong"))
    assert value(metrics, "posewire_rejections_total", reason=error.slug, limit="") == 1


def test_an_overload_counts_under_its_limit() -> None:
    metrics = Metrics()
    labels = {"reason": "overloaded", "limit": "client-bytes"}
    assert value(metrics, "posewire_rejections_total", **labels) == 0  # it exists before
    metrics.count_rejection(errors.Overloaded("too much", limit="client-bytes"))
    metrics.count_rejection(errors.Overloaded("too much", limit="queue"))
    assert value(metrics, "posewire_rejections_total", **labels) == 1
    assert value(metrics, "posewire_rejections_total", reason="overloaded", limit="queue") == 1


def test_requests_are_timed_by_route_method_and_status() -> None:
    metrics = Metrics()
    metrics.observe_request("/v1/pose", "POST", 503, 0.3)
    metrics.observe_request("/v1/pose", "POST", 503, 0.1)
    name, labels = "posewire_request_duration_seconds", {"route": "/v1/pose", "method": "POST", "status": "503"}
    assert value(metrics, f"{name}_count", **labels) == 2
    assert value(metrics, f"{name}_sum", **labels) == pytest.approx(0.4)
    assert value(metrics, f"{name}_bucket", le="0.25", **labels) == 1


def test_a_client_cannot_make_series() -> None:
    metrics = Metrics()
    for word in ("BREW", "PROPFIND", "X" * 1000):
        metrics.observe_request(None, word, 404, 0.001)
    assert value(metrics, "posewire_request_duration_seconds_count", route="unmatched", method="other", status="404") == 3


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


def test_images_in_flight_go_up_and_down() -> None:
    metrics = Metrics()
    for change, left in ((4, 4), (1, 5), (-1, 4), (-4, 0)):
        metrics.change_images_in_flight(change)
        assert value(metrics, "posewire_pictures_in_flight") == left


def test_what_is_observed_by_many_threads_is_all_there_when_it_is_read() -> None:
    metrics = Metrics()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: metrics.observe_people(2), range(3_001)))
    assert value(metrics, "posewire_people_per_picture_count") == 3_001
    assert value(metrics, "posewire_people_per_picture_sum") == 6_002


def test_what_runs_were_filled_up_with_is_counted() -> None:
    metrics = Metrics()
    runs = metrics.batches("pose")
    runs.padding = {3: 1, 5: 3}
    for size in (3, 4, 5, 8):
        runs.started(size)
    assert value(metrics, "posewire_padding_items_total", model="pose") == 4
    assert value(metrics, "posewire_padding_items_total", model="detector") == 0


def test_tracks_are_those_of_the_streams_that_are_open() -> None:
    metrics = Metrics()
    with metrics.tracks() as tell:
        tell(3)
        with metrics.tracks() as tell_other:
            tell_other(2)
            assert value(metrics, "posewire_tracks_active") == 5
        tell(1)
        assert value(metrics, "posewire_tracks_active") == 1
    assert value(metrics, "posewire_tracks_active") == 0


def test_outcomes_and_failures_are_counted() -> None:
    metrics = Metrics()
    metrics.count_image(ok=True)
    metrics.count_image(ok=False)
    metrics.count_image(ok=False)
    metrics.batches("detector").failed()
    assert value(metrics, "posewire_pictures_total", outcome="ok") == 1
    assert value(metrics, "posewire_pictures_total", outcome="failed") == 2
    assert value(metrics, "posewire_inference_failures_total", model="detector") == 1


def test_what_runs_is_told() -> None:
    metrics = Metrics(version="1.2.3")
    metrics.set_model("detector", "person-nano-320", "ab" * 32, "CUDAExecutionProvider")
    metrics.set_ready(True)
    labels = {"task": "detector", "name": "person-nano-320", "sha256": "abababababab", "provider": "CUDAExecutionProvider"}
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
    metrics.set_workers(3)
    metrics.set_limit("images", 64)
    metrics.set_device_fallback(True)
    assert value(metrics, "posewire_workers") == 3
    assert value(metrics, "posewire_pictures_in_flight_limit") == 64
    assert value(metrics, "posewire_device_fallback") == 1
