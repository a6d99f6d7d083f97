"""Traces by OpenTelemetry: how long each stage of a request took, and which requests shared a model run.

The code uses OpenTelemetry's API alone. Nothing is traced until `configure_tracing` loads its SDK (extra `otel`).
A request has the spans decode, queue, detect, crop, pose and encode. A frame of a stream has the same spans, in a trace of its
own, because a stream may last for days. A batch has a trace of its own, too; links connect it with the spans of its requests
and their `queue` spans, in both directions.
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind

from posewire import __version__
from posewire.errors import ConfigError


class _Current:
    tracer: trace.Tracer | None = None  # None: tracing is off, and no spans are made


_NO_SPAN = nullcontext(trace.INVALID_SPAN)


def use(provider: trace.TracerProvider | None) -> None:
    """Send all later spans to a provider; None turns tracing off. OpenTelemetry's global provider can be set only once."""
    _Current.tracer = None if provider is None else provider.get_tracer("posewire", __version__)


def is_on() -> bool:
    """Return True if tracing is on."""
    return _Current.tracer is not None


def configure_tracing(endpoint: str, ratio: float) -> None:
    """Send spans to a collector; call it once per process, before the first request.

    Args:
        endpoint: of OTLP over HTTP, such as http://collector:4318/v1/traces.
        ratio: 0..1, the part of the traces begun here that is kept. If the caller sent a traceparent, its decision holds.

    Raises:
        ConfigError: the SDK is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
    except ImportError:
        raise ConfigError("POSEWIRE_OTLP_ENDPOINT needs OpenTelemetry: pip install 'posewire[otel]'") from None
    resource = Resource.create({"service.name": "posewire", "service.version": __version__})
    provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(ratio))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    use(provider)


def request_span(method: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """Return the server's span of a request; its parent is the caller's span if `traceparent` names one."""
    if _Current.tracer is None:
        return _NO_SPAN
    return _Current.tracer.start_as_current_span(method, propagate.extract(headers), kind=SpanKind.SERVER, record_exception=False)


def current_span() -> Span:
    """Return the span that is active where this is called."""
    return trace.INVALID_SPAN if _Current.tracer is None else trace.get_current_span()


def end_request_span(span: Span, method: str, route: str | None, status: int) -> None:
    """Name the span by its route, which is known only at the end, and note the status."""
    span.update_name(f"{method} {route or 'unmatched'}")
    span.set_attributes({"http.request.method": method, "http.response.status_code": status})
    if route:
        span.set_attribute("http.route", route)
    if status >= 500:
        span.set_status(trace.StatusCode.ERROR)


def frame_span(seq: int, arrived: float, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """Return the first span of a frame's trace, linked to the span that the handshake of its stream named.

    Args:
        seq: the frame's number on its stream.
        arrived: time of its last byte, seconds, monotonic.
        headers: of the handshake.
    """
    if _Current.tracer is None:
        return _NO_SPAN
    caller = trace.get_current_span(propagate.extract(headers)).get_span_context()
    return _Current.tracer.start_as_current_span(
        "frame",
        Context(),
        kind=SpanKind.SERVER,
        links=[Link(caller)] if caller.is_valid else [],
        attributes={"posewire.seq": seq},
        start_time=_epoch_ns() + int(arrived * 1e9),
        record_exception=False,
    )


def fail_span(span: Span, slug: str, status: int) -> None:
    """Note the problem that is answered."""
    span.set_attribute("posewire.problem", slug)
    if status >= 500:
        span.set_status(trace.StatusCode.ERROR)


def traceparent() -> str | None:
    """Return the current span as a W3C `traceparent`, for the answer; None if no span is recorded."""
    carrier: dict[str, str] = {}
    if trace.get_current_span().is_recording():
        propagate.inject(carrier)
    return carrier.get("traceparent")


def sampled_trace_id(span: Span) -> str | None:
    """Return the id of the span's trace, for an exemplar; None if the trace is not kept."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if span.is_recording() and context.trace_flags.sampled else None


def stage(name: str) -> AbstractContextManager[Span]:
    """Return a span below the current one."""
    if _Current.tracer is None:
        return _NO_SPAN
    return _Current.tracer.start_as_current_span(name)


def past(name: str, started: float, ended: float) -> None:
    """Record a span below the current one for work that has ended, perhaps in another process; seconds, monotonic."""
    if _Current.tracer is None or not trace.get_current_span().is_recording():
        return
    epoch = _epoch_ns()
    _Current.tracer.start_span(name, start_time=epoch + int(started * 1e9)).end(epoch + int(ended * 1e9))


def batch(model: str, waiting: Iterable[tuple[Span, float]]) -> Span:
    """Begin the trace of a batch, and record the `queue` span of each of its items.

    Args:
        model: the batcher's name.
        waiting: for every item the span of its request and its time of arrival, seconds, monotonic.

    Returns:
        The batch's span, for `end_batch`.
    """
    tracer = _Current.tracer
    if tracer is None:
        return trace.INVALID_SPAN
    items = list(waiting)
    callers = {span.get_span_context().span_id: (span, arrived) for span, arrived in items if span.is_recording()}
    if not callers:
        return trace.INVALID_SPAN
    links = [Link(span.get_span_context()) for span, _ in callers.values()]
    run = tracer.start_span(f"batch {model}", Context(), links=links, attributes={"posewire.batch_size": len(items)})
    epoch = _epoch_ns()
    for span, arrived in callers.values():
        since = epoch + int(arrived * 1e9)
        tracer.start_span("queue", trace.set_span_in_context(span), links=[Link(run.get_span_context())], start_time=since).end()
    return run


def end_batch(run: Span, error: BaseException | None) -> None:
    """End the span of a batch; note the error that the run raised."""
    if error is not None:
        run.record_exception(error)
        run.set_status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
    run.end()


def _epoch_ns() -> int:
    """Return the offset from the monotonic clock to the clock of spans, nanoseconds."""
    return time.time_ns() - time.monotonic_ns()
