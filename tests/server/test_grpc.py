"""The Open Inference Protocol over gRPC, by a client of gRPC on a port."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_tools import protoc

from posewire.engine.engine import Engine
from posewire.errors import ConfigError
from posewire.server.auth import new_key
from posewire.server.proto import open_inference_pb2 as messages
from tests.server.open_inference import DTYPES, INFER, arrays, bytes_tensor, elements, in_json
from tests.server.streaming import Listen, Listening
from tests.server.support import Gate, GatedDetector

PROTO = Path(messages.__file__).with_name("open_inference.proto")
SERVICE = "/inference.GRPCInferenceService/"
BOX = [70.0, 5.0, 300.0, 500.0]


@dataclass(frozen=True, slots=True)
class Rpc:
    """A server, and a channel to its port of gRPC."""

    server: Listening
    channel: Any  # of grpc.aio: without serializers its stub takes no bytes

    async def send(self, method: str, data: bytes, **options: Any) -> bytes:
        """The bytes of the answer to any bytes."""
        answer: bytes = await self.channel.unary_unary(SERVICE + method)(data, **options)
        return answer

    async def infer(self, request: messages.ModelInferRequest, **options: Any) -> messages.ModelInferResponse:
        return messages.ModelInferResponse.FromString(await self.send("ModelInfer", request.SerializeToString(), **options))


StartRpc = Callable[..., Any]


@asynccontextmanager
async def channel_to(server: Listening) -> AsyncIterator[Rpc]:
    # Channels would share a connection, and the calls that a connection may have.
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.server.grpc_port}", options=options) as channel:
        yield Rpc(server, channel)


@pytest.fixture
async def rpc(listen: Listen) -> AsyncIterator[Rpc]:
    async with channel_to(await listen(grpc_port=0)) as found:
        yield found


def image_request(*images: bytes, raw: bool = True, **fields: Any) -> messages.ModelInferRequest:
    request = messages.ModelInferRequest(model_name="posewire", **fields)
    tensor = request.inputs.add(name="images", datatype="BYTES", shape=[len(images)])
    if raw:
        request.raw_input_contents.append(bytes_tensor(*images))
    else:
        tensor.contents.bytes_contents.extend(images)
    return request


def outputs_of(response: messages.ModelInferResponse) -> dict[str, Any]:
    """The outputs as arrays, in whichever form they are; BYTES as a list."""
    found: dict[str, Any] = {}
    values: Any
    for i, output in enumerate(response.outputs):
        if response.raw_output_contents:
            raw = response.raw_output_contents[i]
            assert not output.HasField("contents")
            values = elements(raw) if output.datatype == "BYTES" else np.frombuffer(raw, DTYPES[output.datatype])
        else:
            contents = output.contents
            kinds: dict[str, Any] = {"FP32": contents.fp32_contents, "INT32": contents.int_contents, "BYTES": contents.bytes_contents}
            values = kinds[output.datatype]
        if output.datatype == "BYTES":
            found[output.name] = list(values)
        else:
            found[output.name] = np.array(values, DTYPES[output.datatype]).reshape(list(output.shape))
    return found


async def refusal(call: Any, code: grpc.StatusCode, says: str) -> dict[str, str]:
    """The call fails with that code and these words; returns its trailing metadata."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value
    assert says in (caught.value.details() or ""), caught.value
    return {str(name): str(value) for name, value in caught.value.trailing_metadata()}


async def test_the_tensors_are_those_of_http_in_both_forms(rpc: Rpc, astronaut: bytes, landscape: bytes) -> None:
    async with httpx.AsyncClient(base_url=rpc.server.url, timeout=60) as client:
        expected = arrays(await client.post(INFER, json={"inputs": [in_json(landscape, astronaut)]}))
    for raw in (True, False):
        response = await rpc.infer(image_request(landscape, astronaut, raw=raw, id="42", model_version="1"))
        assert (response.model_name, response.model_version, response.id) == ("posewire", "1", "42")
        assert response.parameters["pose"].string_param
        found = outputs_of(response)
        assert list(found) == list(expected)
        for name, values in found.items():
            if name != "people":  # their times differ
                np.testing.assert_array_equal(values, expected[name])
        assert [json.loads(text)["people"] for text in found["people"]] == [json.loads(text)["people"] for text in expected["people"]]


async def test_parameters_boxes_and_requested_outputs_are_read(rpc: Rpc, astronaut: bytes) -> None:
    request = image_request(astronaut, raw=False)
    boxes = request.inputs.add(name="boxes", datatype="FP32", shape=[1, 4])
    boxes.contents.fp32_contents.extend(BOX)
    request.outputs.add(name="boxes")
    request.parameters["min_keypoint_score"].double_param = 0.25
    request.parameters["min_detection_score"].string_param = "0.5"
    request.parameters["max_people"].int64_param = 2
    found = outputs_of(await rpc.infer(request))
    assert list(found) == ["boxes"]
    assert found["boxes"].tolist() == [BOX]


async def test_server_and_model_are_described(rpc: Rpc) -> None:
    server = messages.ServerMetadataResponse.FromString(await rpc.send("ServerMetadata", b""))
    assert (server.name, bool(server.version)) == ("posewire", True)
    model = messages.ModelMetadataResponse.FromString(
        await rpc.send("ModelMetadata", messages.ModelMetadataRequest(name="posewire").SerializeToString())
    )
    assert {t.name: (t.datatype, list(t.shape)) for t in model.inputs} == {
        "images": ("BYTES", [-1]),
        "boxes": ("FP32", [-1, 4]),
        "boxes_count": ("INT32", [-1]),
    }
    assert {t.name: list(t.shape) for t in model.outputs}["keypoints"] == [-1, 17, 3]
    other = messages.ModelMetadataRequest(name="other").SerializeToString()
    await refusal(rpc.send("ModelMetadata", other), grpc.StatusCode.NOT_FOUND, "'other'")
    await refusal(rpc.send("ModelStreamInfer", b""), grpc.StatusCode.UNIMPLEMENTED, "")


async def test_health_follows_the_service(rpc: Rpc) -> None:
    async def states() -> tuple[bool, bool, bool, int]:
        health: bytes = await rpc.channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
        return (
            messages.ServerLiveResponse.FromString(await rpc.send("ServerLive", b"")).live,
            messages.ServerReadyResponse.FromString(await rpc.send("ServerReady", b"")).ready,
            messages.ModelReadyResponse.FromString(
                await rpc.send("ModelReady", messages.ModelReadyRequest(name="posewire").SerializeToString())
            ).ready,
            health_pb2.HealthCheckResponse.FromString(health).status,
        )

    assert await states() == (True, True, True, health_pb2.HealthCheckResponse.SERVING)
    rpc.server.services.drain.set()
    assert await states() == (True, False, False, health_pb2.HealthCheckResponse.NOT_SERVING)


async def test_keys_are_asked_for_in_either_metadata(
    listen: Listen, tmp_path: Path, landscape: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    key, line = new_key("camera-1")
    (tmp_path / "keys").write_text(line)
    caplog.set_level("INFO")
    async with channel_to(await listen(grpc_port=0, api_keys_file=tmp_path / "keys")) as rpc:
        request = image_request(landscape)
        metadata: tuple[tuple[str, str], ...]
        for metadata in ((), (("authorization", "Bearer pw_wrong"),), (("x-api-key", "pw_wrong"),)):
            await refusal(rpc.infer(request, metadata=metadata), grpc.StatusCode.UNAUTHENTICATED, "key")
            await refusal(rpc.send("ServerMetadata", b"", metadata=metadata), grpc.StatusCode.UNAUTHENTICATED, "key")
        reflection = rpc.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(iter([b""]))
        await refusal(reflection.read(), grpc.StatusCode.UNIMPLEMENTED, "")
        assert messages.ServerReadyResponse.FromString(await rpc.send("ServerReady", b"")).ready
        for metadata in ((("authorization", f"bearer {key}"),), (("x-api-key", key), ("x-request-id", "mine"))):
            assert (await rpc.infer(request, metadata=metadata)).outputs
    entries = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    last = entries[-1]
    assert (last["client"], last["route"], last["method"], last["status"]) == ("key camera-1", f"{SERVICE}ModelInfer", "POST", 200)
    assert sum(entry["status"] == 401 for entry in entries) == 6
    assert key not in caplog.text


async def test_calls_are_counted_and_errors_are_explained(rpc: Rpc, landscape: bytes) -> None:
    await rpc.infer(image_request(landscape))
    trailing = await refusal(
        rpc.infer(image_request(landscape, b"not an image"), metadata=(("x-request-id", "mine"),)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "image 1:",
    )
    assert (trailing["x-request-id"], trailing["posewire-problem"]) == ("mine", "bad-picture")
    for status in ("200", "400"):
        labels = {"route": f"{SERVICE}ModelInfer", "method": "POST", "status": status}
        assert rpc.server.metric("posewire_request_duration_seconds_count", **labels) == 1
    assert rpc.server.metric("posewire_rejections_total", reason="bad-picture") == 1


def changed(request: messages.ModelInferRequest, change: Callable[[messages.ModelInferRequest], object]) -> bytes:
    change(request)
    return request.SerializeToString()


async def test_hostile_messages_are_refused(rpc: Rpc, landscape: bytes) -> None:
    bad, large = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED

    def request(*images: bytes, **fields: Any) -> messages.ModelInferRequest:
        return image_request(*(images or (landscape,)), **fields)

    empty_inputs = b"\x2a\x00" * 5_000_000
    nested = b"\x2a\x80\x80\x80\x01" + b"\x2a\xfb\xff\x7f" + b"\x42\x00" * 1_048_573
    cases: list[tuple[bytes, grpc.StatusCode, str]] = [
        (b"", grpc.StatusCode.NOT_FOUND, "model"),
        (b"\xff" * 100, bad, "protobuf"),
        (b"\x2a\xff\xff\xff\xff\x0f", bad, "protobuf"),
        (b"\x0b" * 100_000, bad, "protobuf"),
        (b"\x0a\x02\xff\xfe", bad, "not a inference.ModelInferRequest"),
        (empty_inputs, bad, "fields"),
        (nested, bad, "fields"),
        (b"\x22" + b"\x80\x80\x80\x04" + bytes(8_388_608), bad, "beside the images"),
        (changed(request(), lambda r: r.inputs[0].shape.__setitem__(0, -1)), bad, "shape"),
        (changed(request(), lambda r: r.inputs[0].shape.__setitem__(0, 10**9)), bad, "1000000000 images"),
        (changed(request(), lambda r: r.inputs[0].shape.extend([1] * 1000)), bad, "shape"),
        (changed(request(), lambda r: r.raw_input_contents.__setitem__(0, b"\xff\xff\xff\xff1234")), bad, "4294967295"),
        (changed(request(), lambda r: r.raw_input_contents.append(b"")), bad, "raw_input_contents has 2"),
        (changed(request(), lambda r: r.inputs[0].contents.bytes_contents.append(b"x")), bad, "beside raw_input_contents"),
        (changed(request(raw=False), lambda r: r.inputs[0].contents.bytes_contents.append(b"x")), bad, "2 elements"),
        (changed(request(), lambda r: r.outputs.add(name="heatmaps")), bad, "'heatmaps'"),
        (changed(request(), lambda r: r.parameters["speed"].CopyFrom(messages.InferParameter(int64_param=1))), bad, "speed"),
        (changed(request(), lambda r: r.parameters["timeout"].CopyFrom(messages.InferParameter())), bad, "timeout"),
        (changed(request(), lambda r: setattr(r, "model_version", "7")), grpc.StatusCode.NOT_FOUND, "'7'"),
        (bytes(32_000_001), large, "larger than max"),
    ]
    for data, code, says in cases:
        await refusal(rpc.send("ModelInfer", data), code, says)
        assert rpc.server.services.body_bytes.in_flight == 0
    bomb = rpc.send("ModelInfer", bytes(100_000_000), compression=grpc.Compression.Gzip)
    await refusal(bomb, large, "larger than max")
    await refusal(rpc.send("ModelReady", b"\x0a\x80\x80\x08" + bytes(131_072)), bad, "65536")
    await refusal(rpc.channel.stream_unary(f"{SERVICE}ModelInfer")(iter(())), bad, "no message")
    assert (await rpc.infer(request())).outputs


async def test_a_call_ends_at_its_deadline_or_at_that_of_the_service(listen: Listen, models: Engine, gate: Gate, landscape: bytes) -> None:
    late = grpc.StatusCode.DEADLINE_EXCEEDED
    detector = GatedDetector(models.detector, gate)
    async with channel_to(await listen(grpc_port=0, request_timeout_ms=500, detector=detector)) as rpc:
        silent = rpc.channel.stream_unary(f"{SERVICE}ModelInfer")()  # its message never comes
        await refusal(silent, late, "before the body had arrived")
        with gate.shut():
            await refusal(rpc.infer(image_request(landscape)), late, "before the model had run")
            await refusal(rpc.infer(image_request(landscape), timeout=0.1), late, "")
            hurried = image_request(landscape)
            hurried.parameters["timeout"].int64_param = 50_000  # microseconds
            await refusal(rpc.infer(hurried), late, "before the model had run")
            await until(lambda: rpc.server.metric("posewire_pictures_in_flight") == 0)
        assert rpc.server.metric("posewire_rejections_total", reason="deadline-exceeded") == 4


async def test_a_cancelled_call_frees_its_place(listen: Listen, models: Engine, gate: Gate, landscape: bytes) -> None:
    async with channel_to(await listen(grpc_port=0, detector=GatedDetector(models.detector, gate))) as rpc:
        with gate.shut():
            call = rpc.channel.unary_unary(f"{SERVICE}ModelInfer")(image_request(landscape).SerializeToString())
            await until(lambda: rpc.server.metric("posewire_pictures_in_flight") == 1)
            call.cancel()
            await until(lambda: rpc.server.metric("posewire_pictures_in_flight") == 0)
        await until(lambda: rpc.server.metric("posewire_rejections_total", reason="client-gone") == 1)


async def test_a_full_service_refuses_calls_but_answers_health(listen: Listen, models: Engine, gate: Gate, landscape: bytes) -> None:
    async with channel_to(await listen(grpc_port=0, grpc_max_calls=2, detector=GatedDetector(models.detector, gate))) as rpc:
        with gate.shut():
            calls = [asyncio.ensure_future(rpc.infer(image_request(landscape))) for _ in range(2)]
            await until(lambda: rpc.server.metric("posewire_pictures_in_flight") == 2)
            async with channel_to(rpc.server) as other:  # each connection has a limit of its own, below this one
                trailing = await refusal(other.infer(image_request(landscape)), grpc.StatusCode.UNAVAILABLE, "2 calls")
                assert (trailing["posewire-problem"], trailing["grpc-retry-pushback-ms"]) == ("overloaded", "1000")
                assert messages.ServerLiveResponse.FromString(await other.send("ServerLive", b"")).live
        assert all(response.outputs for response in await asyncio.gather(*calls))


async def test_rate_limits_hold_for_addresses(listen: Listen, landscape: bytes) -> None:
    async with channel_to(await listen(grpc_port=0, rate_limit=0.01, rate_burst=2)) as rpc:
        assert (await rpc.infer(image_request(landscape, landscape))).outputs
        await refusal(rpc.infer(image_request(landscape)), grpc.StatusCode.RESOURCE_EXHAUSTED, "images a second")


async def test_a_stop_answers_what_was_accepted_and_refuses_the_rest(listen: Listen, models: Engine, gate: Gate, landscape: bytes) -> None:
    async with channel_to(await listen(grpc_port=0, request_timeout_ms=60_000, detector=GatedDetector(models.detector, gate))) as rpc:
        with gate.shut():
            accepted = asyncio.ensure_future(rpc.infer(image_request(landscape)))
            await until(lambda: rpc.server.metric("posewire_pictures_in_flight") == 1)
            rpc.server.server.stop()
            async with channel_to(rpc.server) as late, asyncio.timeout(30):
                while not await is_closed(late):
                    pass
        assert (await accepted).outputs


async def test_reflection_lists_the_services(rpc: Rpc) -> None:
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    call = rpc.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(iter([ask.SerializeToString()]))
    answer = reflection_pb2.ServerReflectionResponse.FromString(await call.read())
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= {s.name for s in answer.list_services_response.service}


async def test_a_port_in_use_is_said(rpc: Rpc, listen: Listen) -> None:
    with pytest.raises(ConfigError, match="POSEWIRE_GRPC_PORT"):
        await listen(grpc_port=rpc.server.server.grpc_port)


async def test_a_missing_extra_is_said(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "posewire.server.grpc_server", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ConfigError, match=r"pip install 'posewire\[grpc\]'"):
        await listen(grpc_port=0)


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    found = tmp_path / "descriptors"
    root = PROTO.parents[3]
    assert protoc.main(["protoc", f"-I{root}", f"--descriptor_set_out={found}", str(PROTO)]) == 0
    [written] = FileDescriptorSet.FromString(found.read_bytes()).file
    assert fields_of(written) == fields_of(messages.DESCRIPTOR)


def test_the_proto_has_the_wire_format_of_tritons() -> None:
    """In a process of its own: two files may not define the same messages in one."""
    script = (
        "import sys; from tritonclient.grpc import service_pb2; from google.protobuf.descriptor_pb2 import FileDescriptorProto;"
        "found = FileDescriptorProto(); service_pb2.DESCRIPTOR.CopyToProto(found); sys.stdout.buffer.write(found.SerializeToString())"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout
    tritons, ours = fields_of(FileDescriptorProto.FromString(output)), fields_of(messages.DESCRIPTOR)
    assert {name: tritons.get(name) for name in ours} == ours


def fields_of(file: FileDescriptor | FileDescriptorProto) -> dict[str, object]:
    """The number, label and type of every field by its full name, and the messages of every method."""
    proto = FileDescriptorProto()
    if isinstance(file, FileDescriptor):
        file.CopyToProto(proto)
    else:
        proto = file
    found: dict[str, object] = {}

    def walk(kinds: Iterable[DescriptorProto], prefix: str) -> None:
        for kind in kinds:
            for field in kind.field:
                found[f"{prefix}.{kind.name}.{field.name}"] = (field.number, field.label, field.type, field.type_name)
            walk(kind.nested_type, f"{prefix}.{kind.name}")

    walk(proto.message_type, proto.package)
    for service in proto.service:
        for method in service.method:
            found[f"{proto.package}.{service.name}/{method.name}"] = (method.input_type, method.output_type)
    return found


async def is_closed(rpc: Rpc) -> bool:
    """True if the port is closed. A call that meets the stop may be cancelled by gRPC: such a call says nothing, and is sent again."""
    try:
        await rpc.send("ServerLive", b"")
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is awaited shows only in the metrics
            await asyncio.sleep(0.002)
