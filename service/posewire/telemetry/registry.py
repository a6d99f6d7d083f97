"""One application's metrics in the Prometheus client: create, list and write them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    exposition,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """The description of a metric."""

    name: str
    kind: str  # histogram, counter or gauge
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...]  # of a histogram's buckets, without infinity


class Registry:
    """A Prometheus registry with the process's metrics; it is not the global one, because several applications share one test process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._infos: list[MetricInfo] = []
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str, values: Iterable[str] = ()) -> Histogram:
        """Create a histogram; with one label, the series of `values` exist from the start."""
        bounds = tuple(buckets)
        self._infos.append(MetricInfo(name, "histogram", labels, text, bounds))
        metric = Histogram(name, text, labels, buckets=bounds, registry=self._registry)
        _preset(metric, values)
        return metric

    def counter(self, name: str, text: str, *labels: str, values: Iterable[str | tuple[str, ...]] = ()) -> Counter:
        """Create a counter; the series of `values`, each of the label or of all labels, exist from the start."""
        self._infos.append(MetricInfo(name, "counter", labels, text, ()))
        metric = Counter(name, text, labels, registry=self._registry)
        _preset(metric, values)
        return metric

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Create a gauge."""
        self._infos.append(MetricInfo(name, "gauge", labels, text, ()))
        return Gauge(name, text, labels, registry=self._registry)

    def catalogue(self) -> Iterator[MetricInfo]:
        """Return the descriptions of all metrics, in order of creation."""
        return iter(self._infos)

    def render(self, *, openmetrics: bool) -> tuple[bytes, str]:
        """Return every metric in Prometheus' text format or in OpenMetrics, and the media type."""
        registry = _WithoutCreated(self._registry)
        if openmetrics:
            body: bytes = openmetrics_exposition.generate_latest(registry)  # type: ignore[no-untyped-call]
            return body, openmetrics_exposition.CONTENT_TYPE_LATEST
        return exposition.generate_latest(registry), exposition.CONTENT_TYPE_PLAIN_0_0_4


class _WithoutCreated(Collector):
    """A registry without its `_created` series, which double the output; the library's own switch is global."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _preset(metric: Histogram | Counter, values: Iterable[str | tuple[str, ...]]) -> None:
    """Create the series of known label values at zero: a rate over a series that just appeared misses its first event."""
    for value in values:
        metric.labels(*([value] if isinstance(value, str) else value))
