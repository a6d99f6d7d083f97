"""The metrics' catalogue, docs/metrics.md, from the metrics themselves."""

from posewire.telemetry.metrics import Metrics
from posewire.telemetry.registry import MetricInfo

_HEAD = """# Metrics

`GET /metrics`, on `POSEWIRE_OPS_PORT` where that is set: Prometheus' text format, or OpenMetrics for who accepts it. This page is
made from `service/posewire/telemetry/metrics.py` by `make monitoring`. `process_*` and `python_*` are the Prometheus
client's own. A histogram has `_bucket`, `_sum` and `_count`; its bounds stand beside it, in its unit.

| Metric | Type | Labels | Meaning |
|---|---|---|---|
"""


def render() -> str:
    """The page."""
    return _HEAD + "".join(map(_row, Metrics().catalogue()))


def _row(metric: MetricInfo) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning}{_bounds(metric.bounds)} |\n"


def _bounds(bounds: tuple[float, ...]) -> str:
    return f" Bounds: {', '.join(f'{bound:g}' for bound in bounds)}." if bounds else ""
