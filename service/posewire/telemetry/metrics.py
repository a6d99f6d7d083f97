"""Every metric of the service, by name, in one place."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Literal, TypeAlias, get_args

from prometheus_client import Counter, Histogram

from posewire import __version__
from posewire.errors import ServiceError, service_errors
from posewire.telemetry.buckets import BATCH_SIZES, PEOPLE, REQUEST_S, STEP_S
from posewire.telemetry.registry import MetricInfo, Registry

Stage: TypeAlias = Literal["decode", "detect", "crop", "pose", "encode"]
Task: TypeAlias = Literal["detector", "pose"]
# Why a frame of a stream has no result: a newer one came, it got too old, it is no picture, the model failed or was
# overloaded, the stream ended.
FrameLoss: TypeAlias = Literal["newer", "late", "bad", "failed", "closed"]
# By truth value: the detector was spared a frame, or not.
_LOOKED = ("skipped", "ran")
# A method is the client's word: any other would let it make as many series as it likes.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})


class Metrics:
    """What one app counts and times, on a registry of its own: several apps live in one test process.

    No label carries what a client may choose: their values come from the routes, the error tree and the manifest.
    """

    def __init__(self, version: str = __version__) -> None:
        self._registry = Registry()
        self._histogram, self._counter, self._gauge = self._registry.histogram, self._registry.counter, self._registry.gauge
        self._add_request_metrics()
        self._add_model_metrics()
        self._add_stream_metrics()
        self._gauge("posewire_build_info", "The Posewire that runs.", "version").labels(version).set(1)

    def _add_request_metrics(self) -> None:
        requests = self._histogram(
            "posewire_request_duration_seconds", "From a request's head to the end of its answer.", REQUEST_S, "route", "method", "status"
        )
        self._requests_of = cache(requests.labels)  # its own search takes three times as long as to observe
        self._people = self._histogram("posewire_people_per_picture", "People found in a picture.", PEOPLE)
        self._in_flight = self._gauge("posewire_pictures_in_flight", "Pictures admitted and not yet answered.")
        pictures = self._counter("posewire_pictures_total", "Pictures answered, by outcome.", "outcome", values=("ok", "failed"))
        self._outcomes = pictures.labels("failed"), pictures.labels("ok")  # by whether it went well
        rejections = self._counter(
            "posewire_rejections_total", "Requests refused or failed, by problem type.", "reason", values=(e.slug for e in service_errors())
        )
        self._rejections_of = cache(rejections.labels)
        self._in_flight_limit = self._gauge("posewire_pictures_in_flight_limit", "Pictures that may be admitted at a time.")
        self._ready = self._gauge("posewire_ready", "1 while the models are warm and the service takes requests.")
        self._lag = self._histogram(
            "posewire_event_loop_lag_seconds", "How late the event loop does what is due, looked at four times a second.", STEP_S
        )

    def _add_model_metrics(self) -> None:
        tasks = get_args(Task)
        stages = self._histogram(
            "posewire_stage_duration_seconds", "One picture's time in a stage.", STEP_S, "stage", values=get_args(Stage)
        )
        self._stages: dict[Stage, Histogram] = {stage: stages.labels(stage) for stage in get_args(Stage)}
        self._waits = self._histogram(
            "posewire_queue_wait_seconds",
            "One item's time in a queue; on a CPU an image waits once, for its first model.",
            STEP_S,
            "model",
            values=tasks,
        )
        self._batches = self._histogram("posewire_batch_size", "Items of one model run.", BATCH_SIZES, "model", values=tasks)
        self._padding = self._counter(
            "posewire_padding_items_total", "Blank items that runs of a fixed size were filled up with.", "model", values=tasks
        )
        self._runs = self._histogram(
            "posewire_run_duration_seconds",
            "How long one run of a model takes, the whole batch's.",
            STEP_S,
            "model",
            values=tasks,
        )
        self._failures = self._counter("posewire_inference_failures_total", "Model runs that raised.", "model", values=tasks)
        self._deaths = self._counter("posewire_worker_deaths_total", "Processes that run the models and died; each was replaced.")
        self._workers = self._gauge("posewire_workers", "Model runs that may go side by side.")
        self._fell_back = self._gauge("posewire_device_fallback", "1 where device=auto took the CPU though CUDA is installed.")
        self._costs = self._gauge("posewire_run_cost_seconds", "One model run of so many items, as measured at start.", "model", "size")
        self._models = self._gauge("posewire_model_info", "A model that is loaded.", "task", "name", "sha256", "provider")

    def _add_stream_metrics(self) -> None:
        self._streams = self._gauge("posewire_streams_active", "WebSocket streams that are open.")
        self._tracks = self._gauge("posewire_tracks_active", "People who are followed, over all streams; the lost are counted for 2 s.")
        self._frames_received = self._counter("posewire_frames_received_total", "Frames that came on streams.")
        self._frames_dropped = self._counter(
            "posewire_frames_dropped_total", "Frames of streams without a result, by cause.", "cause", values=get_args(FrameLoss)
        )
        self._frames_answered = self._counter(
            "posewire_frames_answered_total", "Frames of streams with a result, by whether the detector looked.", "detector", values=_LOOKED
        )
        self._frame_age = self._histogram(
            "posewire_frame_age_seconds", "From a frame's last byte to the sending of its result, one for each result.", STEP_S
        )

    def observe_request(self, route: str | None, method: str, status: int, seconds: float, trace_id: str | None = None) -> None:
        """One answered request.

        Args:
            route: the route's template, such as `/v1/pose`, never the path itself; None: no route matched.
            method: as in the request; an uncommon one is counted as `other`.
            status: HTTP status.
            seconds: from the request's head to the end of its answer.
            trace_id: of a trace that is kept, as an exemplar.
        """
        method = method if method in _METHODS else "other"
        series = self._requests_of("unmatched" if route is None else route, method, str(status))
        if trace_id:
            series.observe(seconds, exemplar=_exemplar(trace_id))
        else:
            self._registry.observe(series, seconds)

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        """One picture's time in a stage."""
        self._registry.observe(self._stages[stage], seconds)

    @contextmanager
    def time_stage(self, stage: Stage) -> Iterator[None]:
        """Observe how long the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe_stage(stage, time.perf_counter() - started)

    def batches(self, model: Task) -> "BatchMetrics":
        """What a batcher tells of its model's runs."""
        counters = self._failures.labels(model), self._padding.labels(model)
        histograms = self._batches.labels(model), self._runs.labels(model), self._waits.labels(model)
        return BatchMetrics(self._registry, *histograms, *counters)

    def count_worker_death(self) -> None:
        """One process that runs the models has died."""
        self._deaths.inc()

    def set_run_costs(self, model: Task, seconds: Mapping[int, float]) -> None:
        """Tell what a run of each size costs."""
        for size, cost in seconds.items():
            self._costs.labels(model, str(size)).set(cost)

    def observe_people(self, people: int) -> None:
        """How many people one picture showed."""
        self._registry.observe(self._people, people)

    def change_pictures_in_flight(self, by: int) -> None:
        """So many more pictures are admitted, or fewer."""
        self._registry.count(self._in_flight, by)

    def count_picture(self, *, ok: bool) -> None:
        """One picture answered with its people, or not."""
        self._registry.count(self._outcomes[ok])

    def count_rejection(self, error: ServiceError | type[ServiceError]) -> None:
        """One request that was answered with a problem; the reason is the error's slug."""
        self._registry.count(self._rejections_of(error.slug))

    def set_streams(self, streams: int) -> None:
        """Tell how many streams are open."""
        self._streams.set(streams)

    def count_received_frame(self) -> None:
        """One frame of a stream."""
        self._frames_received.inc()

    def count_dropped_frame(self, cause: FrameLoss) -> None:
        """One frame of a stream that gets no result."""
        self._frames_dropped.labels(cause).inc()

    def observe_answered_frame(self, age_s: float, *, detected: bool, trace_id: str | None = None) -> None:
        """One frame of a stream whose result is sent at this age, and whether the detector looked at it; `trace_id` as for a request."""
        self._frame_age.observe(age_s, exemplar=_exemplar(trace_id))
        self._frames_answered.labels(_LOOKED[detected]).inc()

    @contextmanager
    def tracks(self) -> Iterator[Callable[[int], None]]:
        """Count one stream's tracks, as many as it tells of, for as long as the block runs."""
        told = 0

        def tell(tracks: int) -> None:
            nonlocal told
            self._tracks.inc(tracks - told)
            told = tracks

        try:
            yield tell
        finally:
            tell(0)

    def set_model(self, task: Task, name: str, sha256: str, provider: str) -> None:
        """Tell which model is loaded for a task; the digest is cut to twelve digits."""
        self._models.labels(task, name, sha256[:12], provider).set(1)

    def set_limits(self, *, workers: int, pictures: int) -> None:
        """Tell what the service can do at a time: model runs, and pictures that it admits."""
        self._workers.set(workers)
        self._in_flight_limit.set(pictures)

    def set_device_fallback(self, fell_back: bool) -> None:
        """Tell whether a GPU was to be had by the look of the installation, and the CPU is used."""
        self._fell_back.set(int(fell_back))

    def observe_event_loop_lag(self, seconds: float) -> None:
        """How late the event loop was once."""
        self._lag.observe(seconds)

    def set_ready(self, ready: bool) -> None:
        """Tell whether the service takes requests."""
        self._ready.set(int(ready))

    def catalogue(self) -> Iterator[MetricInfo]:
        """Every metric of ours, whether or not it has samples yet."""
        return self._registry.catalogue()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body of `/metrics`, and its media type.

        Args:
            accept: the request's header: who names OpenMetrics, as Prometheus does, gets it, and exemplars with it.
        """
        return self._registry.render(openmetrics="application/openmetrics-text" in accept)


def _exemplar(trace_id: str | None) -> dict[str, str] | None:
    return {"trace_id": trace_id} if trace_id else None


class BatchMetrics:
    """The runs of one model: sizes, times, waits, failures and padding."""

    def __init__(self, registry: Registry, sizes: Histogram, runs: Histogram, waits: Histogram, failures: Counter, blanks: Counter) -> None:
        self._registry = registry
        self._sizes, self._runs, self._waits, self._failures, self._blanks = sizes, runs, waits, failures, blanks
        self.padding: Mapping[int, int] = {}  # blank items with which a number of items is filled up

    def started(self, size: int) -> None:
        """How many items a run takes."""
        self._registry.observe(self._sizes, size)
        if size in self.padding:
            self._blanks.inc(self.padding[size])

    def ran(self, seconds: float) -> None:
        """How long a run took."""
        self._registry.observe(self._runs, seconds)

    def waited(self, seconds: float) -> None:
        """How long one item stood in the queue."""
        self._registry.observe(self._waits, seconds)

    def failed(self) -> None:
        """A run raised."""
        self._failures.inc()
