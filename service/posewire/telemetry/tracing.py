"""OpenTelemetry: what a request spent its time on, and with whom it shared a model run.

The code uses OpenTelemetry's API alone; nothing is traced until `configure_tracing` brings its SDK (extra `otel`).
A request's spans are decode, queue, detect, crop, pose and encode, and so are those of a stream's frame, which has a trace of its
own: a stream has no end in sight. So has a batch, with which the request's span and its `queue` span are linked, both ways.
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
    tracer: trace.Tracer | None = None  # None: nothing is traced, and a request is spared the API's spans that do nothing


_NOTHING = nullcontext(trace.INVALID_SPAN)


def use(provider: trace.TracerProvider | None) -> None:
    """Give all spans from now on to a provider; OpenTelemetry's global one can be set once and never be taken back."""
    _Current.tracer = None if provider is None else provider.get_tracer("posewire", __version__)


def is_on() -> bool:
    """Whether anything is traced."""
    return _Current.tracer is not None


def configure_tracing(endpoint: str, ratio: float) -> None:
    """Send spans to a collector; once a process, before the first request.

    Args:
        endpoint: of OTLP over HTTP, such as http://collector:4318/v1/traces.
        ratio: 0..1, the part of the traces that begin here which is kept; a caller's own decision is followed.

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
    """A server's span, below the caller's where its `traceparent` names one."""
    if _Current.tracer is None:
        return _NOTHING
    return _Current.tracer.start_as_current_span(method, propagate.extract(headers), kind=SpanKind.SERVER, record_exception=False)


def current_span() -> Span:
    """The caller's."""
    return trace.INVALID_SPAN if _Current.tracer is None else trace.get_current_span()


def end_request_span(span: Span, method: str, route: str | None, status: int) -> None:
    """Name the span by its route, which is known only now."""
    span.update_name(f"{method} {route or 'unmatched'}")
    span.set_attributes({"http.request.method": method, "http.response.status_code": status})
    if route:
        span.set_attribute("http.route", route)
    if status >= 500:
        span.set_status(trace.StatusCode.ERROR)


def frame_span(seq: int, arrived: float, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """The first span of a trace of one frame, linked with the span that its stream's handshake came from.

    Args:
        seq: the frame's number on its stream.
        arrived: when its last byte was there, seconds, monotonic.
        headers: of the handshake.
    """
    if _Current.tracer is None:
        return _NOTHING
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
    """Tell the problem that is answered."""
    span.set_attribute("posewire.problem", slug)
    if status >= 500:
        span.set_status(trace.StatusCode.ERROR)


def traceparent() -> str | None:
    """The current span as W3C names it, for those who come after; None: none is recorded."""
    carrier: dict[str, str] = {}
    if trace.get_current_span().is_recording():
        propagate.inject(carrier)
    return carrier.get("traceparent")


def sampled_trace_id(span: Span) -> str | None:
    """The trace by which an exemplar is found again; None where it is not kept."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if span.is_recording() and context.trace_flags.sampled else None


def stage(name: str) -> AbstractContextManager[Span]:
    """A span within the current one."""
    if _Current.tracer is None:
        return _NOTHING
    return _Current.tracer.start_as_current_span(name)


def past(name: str, started: float, ended: float) -> None:
    """A span within the current one of what is over already, perhaps in another process; seconds, monotonic."""
    if _Current.tracer is None or not trace.get_current_span().is_recording():
        return
    epoch = _epoch_ns()
    _Current.tracer.start_span(name, start_time=epoch + int(started * 1e9)).end(epoch + int(ended * 1e9))


def batch(model: str, waiting: Iterable[tuple[Span, float]]) -> Span:
    """A model run for many, in a trace of its own, which begins now, and each one's time in the queue until now.

    Args:
        model: the batcher's name.
        waiting: for every item its caller's span, and since when it waited, seconds, monotonic.

    Returns:
        The run's span, for `end_batch`.
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
    """The run's end, and what it raised."""
    if error is not None:
        run.record_exception(error)
        run.set_status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
    run.end()


def _epoch_ns() -> int:
    """What turns a moment of the monotonic clock into one of a span's."""
    return time.time_ns() - time.monotonic_ns()
