"""Make the catalogue of metrics, docs/metrics.md, from the code."""

from posewire.telemetry.metrics import Metrics
from posewire.telemetry.registry import MetricInfo

_HEAD = """# Metrics

`GET /metrics` answers in Prometheus' text format, or in OpenMetrics if the client accepts it. If `POSEWIRE_OPS_PORT` is set, it is on
that port. `make monitoring` makes this page from `service/posewire/telemetry/metrics.py`. The Prometheus client adds `process_*` and
`python_*`. A histogram has the series `_bucket`, `_sum` and `_count`; the table lists its bounds, in its unit.

| Metric | Type | Labels | Meaning |
|---|---|---|---|
"""


def render() -> str:
    """Return the page."""
    return _HEAD + "".join(map(_row, Metrics().catalogue()))


def _row(metric: MetricInfo) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning}{_bounds(metric.bounds)} |\n"


def _bounds(bounds: tuple[float, ...]) -> str:
    return f" Bounds: {', '.join(f'{bound:g}' for bound in bounds)}." if bounds else ""
