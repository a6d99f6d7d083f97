"""The Grafana dashboards, as code."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
_REF_IDS = "ABCDEFGH"

# Selects the instances that are chosen by the dashboard's variables.
_OURS = 'job=~"$job",instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class Chart:
    """One panel: title, unit, and queries by legend; `OURS` in a query becomes the selector of the instances."""

    title: str
    unit: str  # of Grafana
    queries: dict[str, str]  # legend to PromQL
    description: str = ""
    width: int = 8  # of 24


def _quantiles(metric: str, by: str = "", *, quantiles: Sequence[float] = (0.5, 0.95, 0.99), labels: str = "") -> dict[str, str]:
    """Return queries for a histogram's quantiles by legend, one for each value of the label `by`."""
    groups = f"le, {by}" if by else "le"
    series = f"{metric}_bucket{{OURS{labels}}}"
    legend = f"{{{{{by}}}}} " if by else ""
    return {f"{legend}p{q * 100:g}": f"histogram_quantile({q:g}, sum by ({groups}) (rate({series}[$__rate_interval])))" for q in quantiles}


def _mean(metric: str, by: str) -> dict[str, str]:
    return {f"{{{{{by}}}}}": " / ".join(f"sum by ({by}) (rate({metric}_{part}{{OURS}}[$__rate_interval]))" for part in ("sum", "count"))}


_POSE = ',route="/v1/pose"'

OVERVIEW = (
    Chart(
        "Requests",
        "reqps",
        {"{{status}}": f"sum by (status) (rate(posewire_request_duration_seconds_count{{OURS{_POSE}}}[$__rate_interval]))"},
        "Requests for poses, by status.",
    ),
    Chart(
        "Failures",
        "percentunit",
        {"5xx, 5 minutes": "posewire:pose_errors:ratio_rate5m", "5xx, 1 hour": "posewire:pose_errors:ratio_rate1h"},
        "Part of the requests for poses with a 5xx. Objective: below 0.5 %.",
    ),
    Chart(
        "Latency",
        "s",
        _quantiles("posewire_request_duration_seconds", labels=f'{_POSE},status="200"'),
        "From a request's head to the end of its answer. Objective: 95 % within 0.5 s.",
    ),
    Chart(
        "Capacity in use",
        "percentunit",
        {
            "workers, {{instance}}": "posewire:worker_utilisation:ratio_rate2m{OURS}",
            "admission, {{instance}}": "posewire:admission_utilisation:ratio{OURS}",
        },
        "Workers at 100 %: more load only makes queues longer. Admission at 100 %: requests are rejected.",
    ),
    Chart(
        "Capacity left",
        "short",
        {
            "images per second": "sum(rate(posewire_pictures_total{OURS}[$__rate_interval]))"
            " * (1 - avg(posewire:worker_utilisation:ratio_rate2m{OURS})) / avg(posewire:worker_utilisation:ratio_rate2m{OURS})"
        },
        "Images per second that the service can process in addition, if they are like the present ones.",
    ),
    Chart("Waiting for a model", "s", _quantiles("posewire_queue_wait_seconds", "model", quantiles=(0.95,))),
    Chart(
        "Rejected and failed, by reason",
        "reqps",
        {"{{reason}} {{limit}}": "sum by (reason, limit) (rate(posewire_rejections_total{OURS}[$__rate_interval])) > 0 or on() vector(0)"},
        "By problem type; overloaded also by the limit that was reached. The runbook says what to do about each.",
    ),
    Chart(
        "Images in flight",
        "short",
        {"{{instance}}": "posewire_pictures_in_flight{OURS}", "limit, {{instance}}": "posewire_pictures_in_flight_limit{OURS}"},
        "At the limit requests are rejected: overloaded, images.",
    ),
    Chart("Ready", "short", {"replicas": "sum(posewire_ready{OURS})"}),
    Chart(
        "Bytes of request bodies",
        "bytes",
        {
            "{{instance}}": "posewire_body_bytes_in_flight{OURS}",
            "limit, {{instance}}": "posewire_body_bytes_in_flight_limit{OURS}",
            "limit of one client, {{instance}}": "posewire_body_bytes_in_flight_limit{OURS} / 2",
        },
        "At the limits requests are rejected: overloaded, bytes or client-bytes.",
    ),
    Chart(
        "Open connections",
        "short",
        {"{{instance}}": "posewire_connections_open{OURS}", "limit, {{instance}}": "posewire_connections_limit{OURS}"},
        "At the limit, and if all are at work, a new connection is rejected: overloaded, connections.",
    ),
    Chart(
        "Images that wait for memory for their pixels",
        "short",
        {"{{instance}}": "rate(posewire_pixel_wait_seconds_sum{OURS}[$__rate_interval])"},
        "Mean number. Above 0: images are so large that POSEWIRE_MAX_PIXELS_IN_FLIGHT makes them wait.",
    ),
)

BATCHING = (
    Chart("Items per run, mean", "short", _mean("posewire_batch_size", "model"), "Crops for the pose model, images for the detector."),
    Chart("Items per run", "short", _quantiles("posewire_batch_size", "model", quantiles=(0.5, 0.95))),
    Chart(
        "Padding",
        "percentunit",
        {
            "{{model}}": "sum by (model) (rate(posewire_padding_items_total{OURS}[$__rate_interval]))"
            " / (sum by (model) (rate(posewire_padding_items_total{OURS}[$__rate_interval]))"
            " + sum by (model) (rate(posewire_batch_size_sum{OURS}[$__rate_interval])))"
        },
        "Part of blank items. If it is high, the batch sizes of the model do not fit the load.",
    ),
    Chart("Runs", "ops", {"{{model}}": "sum by (model) (rate(posewire_batch_size_count{OURS}[$__rate_interval]))"}),
    Chart("Time of a run", "s", _quantiles("posewire_run_duration_seconds", "model", quantiles=(0.5, 0.95))),
    Chart(
        "Time per item",
        "s",
        {
            "{{model}}": "sum by (model) (rate(posewire_run_duration_seconds_sum{OURS}[$__rate_interval]))"
            " / sum by (model) (rate(posewire_batch_size_sum{OURS}[$__rate_interval]))"
        },
        "Time of runs divided by their items. Batching lowers it.",
    ),
    Chart("Waiting", "s", _quantiles("posewire_queue_wait_seconds", "model")),
    Chart("People per image", "short", _quantiles("posewire_people_per_picture", quantiles=(0.5, 0.95))),
    Chart(
        "Stages", "s", _quantiles("posewire_stage_duration_seconds", "stage", quantiles=(0.95,)), "Time of one image in each stage, p95."
    ),
)

STREAMS = (
    Chart(
        "Open streams",
        "short",
        {"{{instance}}": "posewire_streams_active{OURS}", "limit, {{instance}}": "posewire_streams_limit{OURS}"},
    ),
    Chart(
        "Frames",
        "ops",
        {
            "received": "sum(rate(posewire_frames_received_total{OURS}[$__rate_interval]))",
            "answered": "sum(rate(posewire_frame_age_seconds_count{OURS}[$__rate_interval]))",
        },
    ),
    Chart("Age of a frame when its result is sent", "s", _quantiles("posewire_frame_age_seconds")),
    Chart(
        "Dropped, by cause",
        "ops",
        {"{{cause}}": "sum by (cause) (rate(posewire_frames_dropped_total{OURS}[$__rate_interval]))"},
        "newer: a newer frame replaced it, which is normal; the other causes are problems.",
        12,
    ),
    Chart(
        "Frames answered",
        "percentunit",
        {
            "of those received": "sum(rate(posewire_frame_age_seconds_count{OURS}[$__rate_interval]))"
            " / sum(rate(posewire_frames_received_total{OURS}[$__rate_interval]))"
        },
        width=12,
    ),
    Chart(
        "Tracked people",
        "short",
        {
            "{{instance}}": "posewire_tracks_active{OURS}",
            "per stream": "sum(posewire_tracks_active{OURS}) / sum(posewire_streams_active{OURS})",
        },
        "Tracks of all open streams; a lost person is counted for 2 s.",
        12,
    ),
    Chart(
        "Detector skipped",
        "percentunit",
        {
            "of streams' frames": 'sum(rate(posewire_frames_answered_total{OURS,detector="skipped"}[$__rate_interval]))'
            " / sum(rate(posewire_frames_answered_total{OURS}[$__rate_interval]))",
            "of all images and frames": '1 - sum(rate(posewire_stage_duration_seconds_count{OURS,stage="detect"}[$__rate_interval]))'
            " / sum(rate(posewire_people_per_picture_count{OURS}[$__rate_interval]))",
        },
        "Frames without a run of the detector: people were tracked, or the caller sent boxes. Such frames cost less.",
        12,
    ),
)

MODELS = (
    Chart(
        "Models by provider",
        "short",
        {"{{task}} {{name}} {{sha256}} {{provider}}": "count by (task, name, sha256, provider) (posewire_model_info{OURS})"},
        "Replicas that serve the model. Two lines of one task: a rollout, or a replica on another device.",
        12,
    ),
    Chart(
        "Fell back to the CPU", "short", {"{{instance}}": "posewire_device_fallback{OURS}"}, "1: CUDA is installed but does not load.", 12
    ),
    Chart("Failed runs", "ops", {"{{model}}": "sum by (model) (rate(posewire_inference_failures_total{OURS}[$__rate_interval]))"}),
    Chart(
        "Workers died",
        "short",
        {"{{instance}}": "increase(posewire_worker_deaths_total{OURS}[$__rate_interval])"},
        "Each was replaced.",
    ),
    Chart("Versions", "short", {"{{version}}": "count by (version) (posewire_build_info{OURS})"}),
    Chart("Started", "dateTimeFromNow", {"{{instance}}": "process_start_time_seconds{OURS} * 1000"}),
    Chart("CPU", "short", {"{{instance}}": "rate(process_cpu_seconds_total{OURS}[$__rate_interval])"}, "Cores."),
    Chart("Memory", "bytes", {"{{instance}}": "process_resident_memory_bytes{OURS}"}),
    Chart("Open files", "short", {"{{instance}}": "process_open_fds{OURS}"}),
    Chart("Event loop's lag", "s", _quantiles("posewire_event_loop_lag_seconds", "instance", quantiles=(0.99,)), width=16),
)

DASHBOARDS: dict[str, tuple[str, Sequence[Chart]]] = {
    "overview": ("Posewire: service", OVERVIEW),
    "batching": ("Posewire: batching", BATCHING),
    "streams": ("Posewire: streams", STREAMS),
    "models": ("Posewire: models and devices", MODELS),
}


def render(name: str) -> str:
    """Return the JSON of one dashboard for Grafana."""
    title, charts = DASHBOARDS[name]
    board = dashboard.Dashboard(title).uid(f"posewire-{name}").tags(["posewire"]).refresh("10s").time("now-30m", "now").editable()
    board.with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
    for label in ("job", "instance"):
        chosen = ', job=~"$job"' if label == "instance" else ""
        variable = (
            dashboard.QueryVariable(label).datasource(_SOURCE).query(f"label_values(posewire_build_info{{{chosen.lstrip(', ')}}}, {label})")
        )
        board.with_variable(variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).include_all(True).multi(True).all_value(".*"))
    for chart in charts:
        board.with_panel(_panel(chart))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


def _panel(chart: Chart) -> timeseries.Panel:
    panel = timeseries.Panel().title(chart.title).description(chart.description).unit(chart.unit).datasource(_SOURCE)
    panel.span(chart.width).height(8).min(0).fill_opacity(8)
    for ref_id, (legend, query) in zip(_REF_IDS, chart.queries.items(), strict=False):
        target = prometheus.Dataquery().expr(query.replace("OURS", _OURS)).legend_format(legend).ref_id(ref_id).datasource(_SOURCE)
        panel.with_target(target.exemplar("_bucket" in query).range())
    return panel
