"""The documents that the service carries, of its HTTP API and of its streams: complete, true, and without another host."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import jsonschema
import pytest
from fastapi import FastAPI
from openapi_spec_validator import OpenAPIV31SpecValidator

from posewire.config import load_settings
from posewire.errors import ServiceError, service_errors
from posewire.formats.registry import FORMATS
from posewire.schemas.stream import parse_ack, parse_start
from posewire.server.app import create_app
from posewire.server.auth import new_key
from tests.server.streaming import Listen, acknowledge, message
from tests.server.support import JSON, Api, assert_problem

Document = dict[str, Any]


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The app without models: its documents are the same."""
    return create_app(load_settings({}))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://posewire") as client:
        yield client


@pytest.fixture
async def document(client: httpx.AsyncClient) -> Document:
    answer = await client.get("/openapi.json")
    assert answer.status_code == 200
    found: Document = answer.json()
    return found


@pytest.fixture
async def streams(client: httpx.AsyncClient) -> Document:
    answer = await client.get("/asyncapi.json")
    assert answer.status_code == 200
    found: Document = answer.json()
    return found


@pytest.fixture(scope="module")
def with_keys(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(new_key("camera-hall")[1] + "\n")
    return create_app(load_settings({}, api_keys_file=keys))


async def test_the_page_and_its_assets_come_from_here(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"https?:|[\"'(]//", page.text)
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert {asset.rsplit(".", 1)[1] for asset in assets} == {"js", "css", "png"}
    [description] = re.findall(r"url: '([^']+)'", page.text)
    for asset in [*assets, description]:
        answer = await client.get(urljoin("http://posewire/docs", asset))
        assert (answer.status_code, bool(answer.content)) == (200, True), asset
        if asset.endswith(".css"):
            assert not re.search(r"@import|url\(\s*[\"']?https?:", answer.text)


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolved(document: Document, value: Document) -> Document:
    """What a reference leads to; any other value as it is."""
    while "$ref" in value:
        reference, value = value["$ref"], document
        assert reference.startswith("#/")
        for step in reference[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            assert name in value, reference
            value = value[name]
    return value


async def test_every_reference_leads_somewhere(document: Document, streams: Document) -> None:
    for whole in (document, streams):
        found = list(references(whole))
        assert found
        for reference in found:
            assert resolved(whole, {"$ref": reference})


def operations(document: Document) -> dict[str, Document]:
    return {operation["operationId"]: operation for methods in document["paths"].values() for operation in methods.values()}


def schema(document: Document, name: str) -> Document:
    """A component as a JSON Schema of its own."""
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


async def test_the_document_is_valid(document: Document) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


async def test_operations_have_names_that_people_would_write(document: Document) -> None:
    found = operations(document).keys()
    assert all(re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", name) for name in found), found
    assert len(found) == sum(len(methods) for methods in document["paths"].values())
    assert found >= {
        "estimate_poses", "estimate_poses_in_image", "estimate_poses_from_json", "draw_poses", "process_video", "list_models",
        "check_liveness", "check_readiness", "check_health", "get_metrics",
    }  # fmt: skip


async def test_every_operation_is_described(document: Document) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert operation["description"], name
        assert len(operation["tags"]) == 1, name
        assert set(operation["tags"]) <= tags, name
        for parameter in (resolved(document, each) for each in operation.get("parameters", [])):
            assert parameter["description"], (name, parameter["name"])
            assert parameter["required"] == (parameter["in"] == "path"), (name, parameter["name"])
            assert "anyOf" not in parameter["schema"], (name, parameter["name"])


async def test_models_are_components_and_not_inline(document: Document) -> None:
    assert "$defs" not in str(document)
    for operation in operations(document).values():
        for place in (operation.get("requestBody", {}), *operation["responses"].values()):
            for kind, media in place.get("content", {}).items():
                assert not re.search(r"[/+]json$", kind) or media["schema"].keys() == {"$ref"}, kind


async def test_post_v1_pose_is_described_as_it_is(document: Document) -> None:
    operation = document["paths"]["/v1/pose"]["post"]
    assert operation["requestBody"]["required"]
    content = operation["requestBody"]["content"]
    images = {"image/jpeg", "image/png", "image/webp", "image/bmp", "application/octet-stream"}
    assert content.keys() == images | {"multipart/form-data", "application/json"}
    assert all(content[kind]["schema"] == {"type": "string", "format": "binary"} for kind in images)
    assert content["multipart/form-data"]["schema"]["required"] == ["image"]
    assert resolved(document, content["application/json"]["schema"])["required"] == ["images"]
    parameters = {(p["in"], p["name"]) for p in (resolved(document, each) for each in operation["parameters"])}
    query = {"min_detection_score", "min_keypoint_score", "max_people", "boxes", "format", "normalized"}
    headers = {"X-Request-Timeout-Ms", "X-Request-Id", "traceparent"}
    assert parameters >= {("query", name) for name in query} | {("header", name) for name in headers}
    formats = {form.media_type for form in FORMATS.values()} | {"application/zip"}
    assert operation["responses"]["200"]["content"].keys() == formats | {"image/jpeg", "image/png"}


async def test_each_path_below_has_one_media_type_in_and_one_out(document: Document) -> None:
    found = {
        path: (list(methods["post"]["requestBody"]["content"]), list(methods["post"]["responses"]["200"]["content"]))
        for path, methods in document["paths"].items()
        if path.startswith("/v1/pose/")
    }
    assert found == {
        "/v1/pose/image": (["application/octet-stream"], ["application/json"]),
        "/v1/pose/json": (["application/json"], ["application/json"]),
        "/v1/pose/drawing": (["application/octet-stream"], ["image/jpeg"]),
    }


async def test_every_error_is_a_problem_of_that_status(document: Document) -> None:
    statuses = {kind.slug: kind.status for kind in service_errors()}
    problem = schema(document, "Problem")
    for name, operation in operations(document).items():
        errors = {status: answer for status, answer in operation["responses"].items() if not status.startswith("2")}
        assert "default" in errors, name
        for status, answer in errors.items():
            assert answer["content"].keys() == {"application/problem+json"}, (name, status)
            [media] = answer["content"].values()
            assert media["schema"] == {"$ref": "#/components/schemas/Problem"}
            for slug, example in media["examples"].items():
                jsonschema.validate(example["value"], problem)
                assert example["value"]["type"].endswith(f":{slug}")
                assert status in ("default", str(statuses[slug])), (name, slug)
    pose = operations(document)["estimate_poses"]["responses"]
    assert pose.keys() >= {"400", "401", "403", "406", "408", "413", "415", "421", "422", "429", "500", "503", "504"}


async def test_every_answer_has_its_headers(document: Document) -> None:
    for operation in operations(document).values():
        for status, answer in operation["responses"].items():
            assert "X-Request-Id" in answer["headers"], status
            assert ("traceparent" in answer["headers"]) == status.startswith("2"), status
            assert ("Retry-After" in answer["headers"]) == (status in ("429", "503", "507")), status


async def test_a_key_is_optional_unless_there_is_a_file_of_keys(document: Document, with_keys: FastAPI) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["security"] == [{"bearer": []}, {}]
    closed = with_keys.openapi()
    assert closed["security"] == [{"bearer": []}]
    open_to_all = {name for name, operation in operations(closed).items() if operation.get("security") == []}
    assert open_to_all == {"check_liveness", "check_readiness", "check_health"}
    assert all(("401" in operation["responses"]) == (name not in open_to_all) for name, operation in operations(closed).items())


async def test_lines_of_a_video_are_components(document: Document) -> None:
    answers = operations(document)["process_video"]["responses"]["200"]["content"]
    assert answers.keys() == {"application/x-ndjson", FORMATS["csv"].media_type, FORMATS["parquet"].media_type}
    content = answers["application/x-ndjson"]
    assert content["schema"] == {"type": "string"}
    line = resolved(document, content["x-itemSchema"])
    assert line["discriminator"]["mapping"].keys() == {"video", "frame", "end", "error"}
    frame = resolved(document, {"$ref": line["discriminator"]["mapping"]["frame"]})
    assert set(frame["required"]) == set(frame["properties"])
    problem = {"type": "urn:posewire:problem:bad-video", "title": "", "status": 400, "detail": ""}
    jsonschema.validate({"type": "error", "problem": problem}, schema(document, "AnswerLine"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"type": "error"}, schema(document, "AnswerLine"))


async def test_the_json_that_the_document_shows_is_answered_as_the_document_says(api: Api, document: Document) -> None:
    for path in ("/v1/pose", "/v1/pose/json"):
        examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert examples
        for example in examples.values():
            jsonschema.validate(example["value"], schema(document, "PoseRequest"))
            answer = await api.client.post(path, json=example["value"])
            assert answer.status_code == 200, answer.text
            jsonschema.validate(answer.json(), schema(document, "PoseResponse"))
    models = (await api.client.get("/v1/models")).json()
    jsonschema.validate(models, schema(document, "ModelsResponse"))
    assert {model["task"] for model in models["models"]} == {"detector", "pose"}


async def test_a_path_with_one_media_type_answers_as_post_v1_pose_does(api: Api, astronaut: bytes) -> None:
    whole = (await api.post(astronaut, max_people=1)).json()
    accept = {"Accept": "text/html", "Content-Type": "application/octet-stream"}
    answer = await api.client.post("/v1/pose/image", content=astronaut, headers=accept, params={"max_people": 1})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json()["images"][0]["people"] == whole["images"][0]["people"]
    drawn = await api.post(astronaut, {"Accept": "image/jpeg"}, max_people=1)
    again = await api.client.post("/v1/pose/drawing", content=astronaut, headers=accept, params={"max_people": 1})
    assert (again.status_code, again.headers["Content-Type"]) == (200, "image/jpeg")
    assert again.content == drawn.content
    assert await api.metric("posewire_request_duration_seconds_count", route="/v1/pose/drawing", status="200") == 1


async def test_bad_requests_to_a_path_with_one_media_type_are_problems(api: Api, astronaut: bytes) -> None:
    binary = {"Content-Type": "application/octet-stream"}
    post = api.client.post
    assert_problem(await post("/v1/pose/image", content=b"no image", headers=binary), 400, "bad-picture")
    assert_problem(await post("/v1/pose/image?format=coco", content=astronaut, headers=binary), 422, "bad-parameter", "format")
    assert_problem(await post("/v1/pose/json", content=b"{", headers=JSON), 400, "bad-body")
    assert_problem(await post("/v1/pose/json?boxes=[]", content=b"{}", headers=JSON), 422, "bad-parameter", "boxes")
    assert_problem(await post("/v1/pose/drawing", content=b"", headers=binary), 400, "bad-picture")


async def test_a_full_service_refuses_a_path_with_one_media_type_unread(full: Api, gate: Any, astronaut: bytes) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield astronaut

    with gate.shut(), full.services.admission.enter(2):
        answer = await full.client.post("/v1/pose/image", content=body(), headers={"Content-Type": "application/octet-stream"})
    assert_problem(answer, 503, "overloaded")
    assert answer.headers["Retry-After"]
    assert read == []


async def test_messages_of_streams_are_those_of_the_service(streams: Document) -> None:
    assert streams["asyncapi"] == "3.0.0"
    assert streams["channels"]["stream"]["address"] == "/v1/stream"
    assert streams["channels"]["stream"]["messages"].keys() == {"start", "frame", "ack", "started", "result", "error"}
    assert streams["servers"]["service"] | {"title": ""} == {"host": "posewire", "protocol": "ws", "title": ""}
    answers = {name: operation.get("reply", {}).get("messages", []) for name, operation in streams["operations"].items()}
    assert {name: [each["$ref"].rsplit("/", 1)[1] for each in found] for name, found in answers.items()} == {
        "receive_start": ["started"], "receive_frame": ["result", "error"], "receive_ack": [],
    }  # fmt: skip


def payload(streams: Document, name: str) -> Document:
    """The JSON Schema of a message."""
    return {**streams["components"]["messages"][name]["payload"], "components": streams["components"]}


async def test_messages_that_the_service_sends_are_as_the_document_says(streams: Document, listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with server.connect() as stream:
        await stream.send('{"type": "start"}')
        jsonschema.validate(await message(stream), payload(streams, "started"))
        for seq, (frame, kind) in enumerate([(astronaut, "result"), (b"no image", "error")]):
            await stream.send(frame)
            answer = await message(stream)
            assert answer["type"] == kind
            jsonschema.validate(answer, payload(streams, kind))
            assert answer.keys() == set(resolved(streams, streams["components"]["messages"][kind]["payload"])["required"])
            await acknowledge(stream, seq)


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("start", {"type": "start"}, True),
        ("start", {"type": "start", "track": False, "smooth": False, "max_people": 3, "min_detection_score": 0.5}, True),
        ("start", {"type": "start", "max_people": None, "min_keypoint_score": 1}, True),
        ("start", {"type": "start", "max_people": 0}, False),
        ("start", {"type": "start", "min_detection_score": 1.5}, False),
        ("start", {"type": "start", "colour": "red"}, False),
        ("start", {"type": "ack"}, False),
        ("start", {"track": True}, False),
        ("ack", {"type": "ack", "seq": 7}, True),
        ("ack", {"type": "ack", "seq": -1}, False),
        ("ack", {"type": "ack"}, False),
    ],
)
async def test_the_service_takes_the_messages_of_the_document(streams: Document, name: str, text: Document, *, valid: bool) -> None:
    parse = {"start": parse_start, "ack": parse_ack}[name]
    validator = jsonschema.Draft202012Validator(payload(streams, name))
    assert validator.is_valid(text) == valid
    if valid:
        parse(json.dumps(text))
    else:
        with pytest.raises(ServiceError):
            parse(json.dumps(text))


async def test_streams_need_a_key_if_there_is_a_file_of_keys(streams: Document, with_keys: FastAPI, tmp_path: Path) -> None:
    assert "security" not in streams["servers"]["service"]
    key, line = new_key("camera-hall")
    (tmp_path / "keys").write_text(line + "\n")
    app = create_app(load_settings({}, api_keys_file=tmp_path / "keys"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://posewire:8443") as client:
        assert (await client.get("/asyncapi.json")).status_code == 401
        locked = (await client.get("/asyncapi.json", headers={"Authorization": f"Bearer {key}"})).json()
    assert locked["servers"]["service"]["security"] == [{"$ref": "#/components/securitySchemes/bearer"}]
    assert (locked["servers"]["service"]["host"], locked["servers"]["service"]["protocol"]) == ("posewire:8443", "wss")
