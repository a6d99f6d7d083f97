"""What /metrics would say, as samples."""

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from posewire.telemetry.metrics import Metrics


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(metrics.render()[0].decode())}


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    """The one sample of that name whose labels are exactly these."""
    found = [s.value for f in families(metrics).values() for s in f.samples if s.name == name and s.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None
