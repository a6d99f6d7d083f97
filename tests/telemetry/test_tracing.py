"""Spans as an exporter gets them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace

from posewire.telemetry import tracing
from tests.server.streaming import START, Listen, acknowledge, message
from tests.server.support import Api, StartApi

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed (extra otel)")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}


@pytest.fixture
def spans() -> Iterator[Any]:
    """What was exported since the test began."""
    exporter = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)


def named(spans: Any, name: str) -> list[Any]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def children(spans: Any, parent: Any) -> set[str]:
    """Names of the spans below one."""
    return {span.name for span in spans.get_finished_spans() if span.parent and span.parent.span_id == parent.context.span_id}


@pytest.mark.parametrize("batched", [False, True])
async def test_a_request_goes_on_with_its_callers_trace(start_api: StartApi, spans: Any, astronaut: bytes, batched: bool) -> None:
    api = await start_api(batched=batched)
    answer = await api.post(astronaut, {"traceparent": CALLER})
    [root] = named(spans, "POST /v1/pose")
    assert trace.format_trace_id(root.context.trace_id) == CALLER.split("-")[1]
    assert trace.format_span_id(root.parent.span_id) == CALLER.split("-")[2]
    assert answer.headers["traceparent"] == f"00-{CALLER.split('-')[1]}-{trace.format_span_id(root.context.span_id)}-01"
    for name in ("decode", "queue", "detect", "crop", "pose", "encode"):
        stage, *_ = named(spans, name)
        assert stage.parent.span_id == root.context.span_id, name
        assert root.start_time <= stage.start_time <= stage.end_time <= root.end_time, name


async def test_a_frame_of_a_stream_has_a_trace_of_its_own(listen: Listen, spans: Any, astronaut: bytes) -> None:
    server = await listen()
    async with server.connect(headers={"traceparent": CALLER}) as stream:
        await stream.send(START)
        await message(stream)
        for seq, frame in enumerate((astronaut, astronaut, b"rubbish")):
            await stream.send(frame)
            assert (await message(stream))["seq"] == seq
            await acknowledge(stream, seq)
    looked, followed, refused = named(spans, "frame")
    for seq, span in enumerate((looked, followed, refused)):
        assert (span.parent, span.attributes["posewire.seq"]) == (None, seq)
        assert [trace.format_span_id(link.context.span_id) for link in span.links] == [CALLER.split("-")[2]]
    assert len({span.context.trace_id for span in (looked, followed, refused)}) == 3
    assert children(spans, looked) == {"decode", "queue", "detect", "crop", "pose", "encode"}
    assert children(spans, followed) == children(spans, looked) - {"detect"}
    assert children(spans, refused) == {"decode"}
    assert refused.attributes["posewire.problem"] == "bad-picture"
    assert refused.status.is_ok or refused.status.is_unset  # the client's fault
    for stage in ("decode", "detect", "crop", "pose", "encode"):
        [found] = [span for span in named(spans, stage) if span.parent.span_id == looked.context.span_id]
        assert looked.start_time <= found.start_time <= found.end_time <= looked.end_time


async def test_a_batch_is_linked_with_everyone_in_it(start_api: StartApi, spans: Any, astronaut: bytes) -> None:
    api = await start_api(batched=True)
    await asyncio.gather(api.post(astronaut), api.post(astronaut))
    callers = {span.context.span_id for span in named(spans, "POST /v1/pose")}
    assert len(callers) == 2
    for model in ("detector", "pose"):
        runs = named(spans, f"batch {model}")  # one or two, as runs cost on this machine
        assert {run.parent for run in runs} == {None}
        assert {link.context.span_id for run in runs for link in run.links} == callers
        told = {(wait.parent.span_id, link.context.span_id) for wait in named(spans, "queue") for link in wait.links}
        assert told >= {(link.context.span_id, run.context.span_id) for run in runs for link in run.links}


async def test_metrics_name_the_trace_by_which_one_is_found(api: Api, spans: Any, astronaut: bytes) -> None:
    await api.post(astronaut, {"traceparent": CALLER})
    metrics = (await api.client.get("/metrics", headers=OPENMETRICS)).text
    assert [line for line in metrics.splitlines() if 'route="/v1/pose"' in line and f'trace_id="{CALLER.split("-")[1]}"' in line]


async def test_a_trace_that_its_caller_does_not_keep_is_not_kept(api: Api, spans: Any, astronaut: bytes) -> None:
    answer = await api.post(astronaut, {"traceparent": CALLER[:-1] + "0"})
    assert "traceparent" not in answer.headers
    assert not named(spans, "POST /v1/pose")
