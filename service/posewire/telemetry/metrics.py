"""Every metric of the service, by name, in one place."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Literal, TypeAlias, get_args

from prometheus_client import Counter, Gauge, Histogram

from posewire import __version__
from posewire.errors import Limit, Overloaded, ServiceError, service_errors
from posewire.telemetry.buckets import BATCH_SIZES, PEOPLE, REQUEST_S, STEP_S
from posewire.telemetry.registry import MetricInfo, Registry
from posewire.types import CameraState, Stage

Task: TypeAlias = Literal["detector", "pose"]
# The reasons why a frame of a stream has no result: a newer frame arrived, it became too old, it is not an image, the model
# failed or was overloaded, the stream ended.
FrameLoss: TypeAlias = Literal["newer", "late", "bad", "failed", "closed"]
# What happened to a frame of a camera: it has a result, a newer one had come, or the model failed or was overloaded.
FrameOutcome: TypeAlias = Literal["ok", "dropped", "failed"]
# The values of the label `detector`: False is "skipped", True is "ran".
_DETECTOR_RUNS = ("skipped", "ran")
# A client may send any method. Others are counted as one, so that a client cannot create series without limit.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})


class Metrics:
    """All metrics of one application, on a registry of their own: several applications share one test process.

    Clients cannot choose label values: the values come from the routes, the error classes and the manifest.
    """

    def __init__(self, version: str = __version__) -> None:
        self._registry = Registry()
        self._histogram, self._counter, self._gauge = self._registry.histogram, self._registry.counter, self._registry.gauge
        self._add_request_metrics()
        self._add_model_metrics()
        self._add_stream_metrics()
        self._add_camera_metrics()
        self._gauge("posewire_build_info", "The version of Posewire.", "version").labels(version).set(1)

    def _add_request_metrics(self) -> None:
        requests = self._histogram(
            "posewire_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            REQUEST_S,
            "route",
            "method",
            "status",
        )
        self._requests_of = cache(requests.labels)
        self._people = self._histogram("posewire_people_per_picture", "People found in an image.", PEOPLE)
        self._in_flight = self._gauge("posewire_pictures_in_flight", "Images admitted and not yet answered.")
        self._body_bytes = self._gauge("posewire_body_bytes_in_flight", "Bytes of request bodies of images in memory, until their answers.")
        images = self._counter("posewire_pictures_total", "Images answered, by outcome.", "outcome", values=("ok", "failed"))
        self._outcomes = images.labels("failed"), images.labels("ok")  # index 1 is success
        limits = [(Overloaded.slug, limit) for limit in get_args(Limit)]
        rejections = self._counter(
            "posewire_rejections_total",
            "Requests, connections and streams rejected or failed, by problem type; `limit`: the limit that was reached, if one was.",
            "reason",
            "limit",
            values=[*((e.slug, "") for e in service_errors() if e is not Overloaded), *limits],
        )
        self._rejections_of = cache(rejections.labels)
        self._connections = self._gauge("posewire_connections_open", "Open connections over HTTP.")
        self._limits: dict[Limit, Gauge] = {
            "images": self._gauge("posewire_pictures_in_flight_limit", "Limit of images admitted at a time."),
            "bytes": self._gauge("posewire_body_bytes_in_flight_limit", "Limit of bytes of request bodies; one client has half."),
            "connections": self._gauge("posewire_connections_limit", "Limit of open connections over HTTP."),
            "streams": self._gauge("posewire_streams_limit", "Limit of open WebSocket streams."),
        }
        self._pixel_waits = self._histogram(
            "posewire_pixel_wait_seconds",
            "Time that an image waits until its pixels fit into POSEWIRE_MAX_PIXELS_IN_FLIGHT. Empty if the workers cannot exceed it.",
            STEP_S,
        )
        self._ready = self._gauge("posewire_ready", "1 while the models are loaded and the service accepts requests.")
        self._lag = self._histogram("posewire_event_loop_lag_seconds", "Delay of the event loop, measured four times a second.", STEP_S)

    def _add_camera_metrics(self) -> None:
        self._camera_frames = self._counter(
            "posewire_camera_frames_total", "Frames of cameras, by outcome: ok, dropped or failed.", "camera", "outcome"
        )
        self._camera_reconnects = self._counter("posewire_camera_reconnects_total", "How often a camera was lost.", "camera")
        self._camera_states = self._gauge("posewire_camera_state", "1 for the state that a camera is in.", "camera", "state")
        self._camera_seen = self._gauge(
            "posewire_camera_last_frame_timestamp_seconds", "Time of the last frame with a result, seconds since 1970.", "camera"
        )

    def _add_model_metrics(self) -> None:
        tasks = get_args(Task)
        stages = self._histogram(
            "posewire_stage_duration_seconds", "Time of one image in a stage.", STEP_S, "stage", values=get_args(Stage)
        )
        self._stages: dict[Stage, Histogram] = {stage: stages.labels(stage) for stage in get_args(Stage)}
        self._waits = self._histogram(
            "posewire_queue_wait_seconds",
            "Time of one item in a queue; on a CPU an image waits once, for its first model.",
            STEP_S,
            "model",
            values=tasks,
        )
        self._batches = self._histogram("posewire_batch_size", "Items of one model run.", BATCH_SIZES, "model", values=tasks)
        self._padding = self._counter(
            "posewire_padding_items_total", "Blank items added to fill model runs of a fixed size.", "model", values=tasks
        )
        self._runs = self._histogram(
            "posewire_run_duration_seconds",
            "Time of one run of a model, for the whole batch.",
            STEP_S,
            "model",
            values=tasks,
        )
        self._failures = self._counter("posewire_inference_failures_total", "Model runs that raised.", "model", values=tasks)
        self._deaths = self._counter("posewire_worker_deaths_total", "Worker processes that died; each was replaced.")
        self._workers = self._gauge("posewire_workers", "Model runs that can run in parallel.")
        self._busy = self._counter("posewire_worker_busy_seconds_total", "Time that workers were busy, of all workers together.")
        self._fell_back = self._gauge("posewire_device_fallback", "1 if device=auto chose the CPU although CUDA is installed.")
        self._costs = self._gauge("posewire_run_cost_seconds", "Time of one model run of `size` items, measured at start.", "model", "size")
        self._models = self._gauge("posewire_model_info", "A loaded model.", "task", "name", "sha256", "provider")

    def _add_stream_metrics(self) -> None:
        self._streams = self._gauge("posewire_streams_active", "Open WebSocket streams.")
        self._tracks = self._gauge("posewire_tracks_active", "Tracked people of all streams; a lost person is counted for 2 s.")
        self._frames_received = self._counter("posewire_frames_received_total", "Frames received on streams.")
        self._frames_dropped = self._counter(
            "posewire_frames_dropped_total", "Frames of streams without a result, by cause.", "cause", values=get_args(FrameLoss)
        )
        self._frames_answered = self._counter(
            "posewire_frames_answered_total",
            "Frames of streams with a result; `detector`: ran or skipped.",
            "detector",
            values=_DETECTOR_RUNS,
        )
        self._frame_age = self._histogram(
            "posewire_frame_age_seconds", "Time from a frame's last byte to the sending of its result.", STEP_S
        )

    def observe_request(self, route: str | None, method: str, status: int, seconds: float, trace_id: str | None = None) -> None:
        """Count and time one answered request.

        Args:
            route: the route's template, such as `/v1/pose`, never the path itself; None: no route matched.
            method: as in the request; an uncommon one is counted as `other`.
            status: HTTP status.
            seconds: from the request's head to the end of its answer.
            trace_id: of a trace that is kept, becomes an exemplar.
        """
        method = method if method in _METHODS else "other"
        series = self._requests_of("unmatched" if route is None else route, method, str(status))
        series.observe(seconds, exemplar=_exemplar(trace_id))

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        """Observe one image's time in a stage."""
        self._stages[stage].observe(seconds)

    @contextmanager
    def time_stage(self, stage: Stage) -> Iterator[None]:
        """Observe how long the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe_stage(stage, time.perf_counter() - started)

    def batches(self, model: Task) -> "BatchMetrics":
        """Return the metrics of one model's runs."""
        counters = self._failures.labels(model), self._padding.labels(model)
        histograms = self._batches.labels(model), self._runs.labels(model), self._waits.labels(model)
        return BatchMetrics(*histograms, *counters)

    def add_worker_busy(self, seconds: float) -> None:
        """Add the time that a worker was busy with an image or a batch."""
        self._busy.inc(seconds)

    def count_worker_death(self) -> None:
        """Count a worker process that died."""
        self._deaths.inc()

    def set_run_costs(self, model: Task, seconds: Mapping[int, float]) -> None:
        """Set the measured time of a run of each size."""
        for size, cost in seconds.items():
            self._costs.labels(model, str(size)).set(cost)

    def observe_people(self, people: int) -> None:
        """Observe the number of people in one image."""
        self._people.observe(people)

    def change_images_in_flight(self, by: int) -> None:
        """Change the number of admitted images; `by` may be negative."""
        self._in_flight.inc(by)

    def set_body_bytes_in_flight(self, count: int) -> None:
        """Set the bytes of request bodies of images in memory."""
        self._body_bytes.set(count)

    def count_image(self, *, ok: bool) -> None:
        """Count one image; `ok` says that it was answered with its people."""
        self._outcomes[ok].inc()

    def count_rejection(self, error: ServiceError) -> None:
        """Count a request that was answered with a problem; the label `reason` is the error's slug, `limit` its limit."""
        self._rejections_of(error.slug, error.limit or "").inc()

    def set_streams(self, streams: int) -> None:
        """Set the number of open streams."""
        self._streams.set(streams)

    def count_received_frame(self, number: int = 1) -> None:
        """Count received frames of a stream."""
        self._frames_received.inc(number)

    def count_dropped_frame(self, cause: FrameLoss, number: int = 1) -> None:
        """Count frames of a stream that have no result."""
        self._frames_dropped.labels(cause).inc(number)

    def observe_answered_frame(self, age_s: float, *, detected: bool, trace_id: str | None = None) -> None:
        """Count a frame of a stream whose result is sent, and observe its age.

        Args:
            age_s: from the frame's last byte to the sending of its result.
            detected: the detector ran on the frame.
            trace_id: as in `observe_request`.
        """
        self._frame_age.observe(age_s, exemplar=_exemplar(trace_id))
        self._frames_answered.labels(_DETECTOR_RUNS[detected]).inc()

    @contextmanager
    def tracks(self) -> Iterator[Callable[[int], None]]:
        """Count one stream's tracks while the block runs; yields a function that sets their number."""
        counted = 0

        def report(tracks: int) -> None:
            nonlocal counted
            self._tracks.inc(tracks - counted)
            counted = tracks

        try:
            yield report
        finally:
            report(0)

    def camera(self, name: str) -> "CameraMetrics":
        """Return the metrics of one camera; their series exist until it is removed. The number of cameras is limited."""
        return CameraMetrics(name, self._camera_frames, self._camera_reconnects, self._camera_states, self._camera_seen)

    def set_model(self, task: Task, name: str, sha256: str, provider: str) -> None:
        """Set the model that is loaded for a task; the digest is shortened to twelve digits."""
        self._models.labels(task, name, sha256[:12], provider).set(1)

    def set_workers(self, workers: int) -> None:
        """Set the number of model runs that can run in parallel."""
        self._workers.set(workers)

    def set_limit(self, limit: Limit, value: int) -> None:
        """Set one of the limits that have a gauge: images, bytes, connections and streams."""
        self._limits[limit].set(value)

    def set_connections(self, count: int) -> None:
        """Set the number of open connections."""
        self._connections.set(count)

    def observe_pixel_wait(self, seconds: float) -> None:
        """Observe how long an image has waited for room for its pixels."""
        self._pixel_waits.observe(seconds)

    def set_device_fallback(self, fell_back: bool) -> None:
        """Set whether the CPU is used although the installation includes CUDA."""
        self._fell_back.set(int(fell_back))

    def observe_event_loop_lag(self, seconds: float) -> None:
        """Observe one measured delay of the event loop."""
        self._lag.observe(seconds)

    def set_ready(self, ready: bool) -> None:
        """Set whether the service accepts requests."""
        self._ready.set(int(ready))

    def catalogue(self) -> Iterator[MetricInfo]:
        """Return every metric of Posewire, also those without samples."""
        return self._registry.catalogue()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the body of `/metrics`, and its media type.

        Args:
            accept: the request's header. If it names OpenMetrics, as Prometheus does, the body is OpenMetrics with exemplars.
        """
        return self._registry.render(openmetrics="application/openmetrics-text" in accept)


def _exemplar(trace_id: str | None) -> dict[str, str] | None:
    return {"trace_id": trace_id} if trace_id else None


class CameraMetrics:
    """The frames and the state of one camera."""

    def __init__(self, name: str, frames: Counter, reconnects: Counter, states: Gauge, seen: Gauge) -> None:
        self._name = name
        self._frames, self._reconnects, self._states, self._seen = frames, reconnects, states, seen
        self._state: CameraState | None = None
        for outcome in get_args(FrameOutcome):
            frames.labels(name, outcome)
        reconnects.labels(name)

    def count_frames(self, outcome: FrameOutcome, number: int = 1) -> None:
        """Count frames; those of outcome "ok" have a result now."""
        self._frames.labels(self._name, outcome).inc(number)
        if outcome == "ok":
            self._seen.labels(self._name).set_to_current_time()

    def count_reconnect(self) -> None:
        """Count a loss of the camera."""
        self._reconnects.labels(self._name).inc()

    def set_state(self, state: CameraState) -> None:
        """Set the state that the camera is in."""
        if self._state is not None:
            self._states.labels(self._name, self._state).set(0)
        self._states.labels(self._name, state).set(1)
        self._state = state

    def remove(self) -> None:
        """Remove the camera's series."""
        for outcome in get_args(FrameOutcome):
            self._frames.remove(self._name, outcome)
        for metric in (self._reconnects, self._states, self._seen):
            metric.remove_by_labels({"camera": self._name})


class BatchMetrics:
    """The runs of one model: sizes, times, waits, failures and padding."""

    def __init__(self, sizes: Histogram, runs: Histogram, waits: Histogram, failures: Counter, blanks: Counter) -> None:
        self._sizes, self._runs, self._waits, self._failures, self._blanks = sizes, runs, waits, failures, blanks
        self.padding: Mapping[int, int] = {}  # number of items -> blank items that are added to them

    def started(self, size: int) -> None:
        """Observe a run of `size` items."""
        self._sizes.observe(size)
        if size in self.padding:
            self._blanks.inc(self.padding[size])

    def ran(self, seconds: float) -> None:
        """Observe the time of a run."""
        self._runs.observe(seconds)

    def waited(self, seconds: float) -> None:
        """Observe the time of one item in the queue."""
        self._waits.observe(seconds)

    def failed(self) -> None:
        """Count a run that raised."""
        self._failures.inc()
