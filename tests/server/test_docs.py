"""The documentation that the service carries: complete, true, and without another host."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest

from posewire.formats.registry import FORMATS
from tests.server.support import Api


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    answer = await api.client.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_the_page_and_its_assets_come_from_here(api: Api) -> None:
    page = await api.client.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"https?:|[\"'(]//", page.text)
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert {asset.rsplit(".", 1)[1] for asset in assets} == {"js", "css", "png"}
    [description] = re.findall(r"url: '([^']+)'", page.text)
    for asset in [*assets, description]:
        answer = await api.client.get(urljoin("http://posewire/docs", asset))
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


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = list(references(document))
    assert found
    for reference in found:
        target: Any = document
        assert reference.startswith("#/")
        for step in reference[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            assert name in target, reference
            target = target[name]


async def test_post_v1_pose_is_described_as_it_is(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/pose"]["post"]
    assert operation["requestBody"]["required"]
    content = operation["requestBody"]["content"]
    pictures = {"image/jpeg", "image/png", "image/webp", "image/bmp", "application/octet-stream"}
    assert content.keys() == pictures | {"multipart/form-data", "application/json"}
    assert all(content[kind]["schema"] == {"type": "string", "format": "binary"} for kind in pictures)
    assert content["multipart/form-data"]["schema"]["required"] == ["image"]
    assert content["application/json"]["schema"]["required"] == ["images"]
    parameters = {(p["in"], p["name"]) for p in operation["parameters"]}
    query = {"min_detection_score", "min_keypoint_score", "max_people", "boxes", "format", "normalized"}
    assert parameters == {("query", name) for name in query} | {("header", "X-Request-Timeout-Ms")}
    assert all(p["description"] and not p["required"] for p in operation["parameters"])


async def test_answers_are_described_as_they_are(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/pose"]["post"]["responses"]
    assert responses.keys() == {"200", "default"}
    formats = {form.media_type for form in FORMATS.values()} | {"application/zip"}
    assert responses["200"]["content"].keys() == formats | {"image/jpeg", "image/png"}
    assert responses["default"]["content"].keys() == {"application/problem+json"}


async def test_every_route_of_operations_is_described(document: dict[str, Any]) -> None:
    assert document["paths"].keys() >= {"/v1/pose", "/livez", "/readyz", "/healthz", "/v1/models", "/metrics"}
    assert all(operation["summary"] for path in document["paths"].values() for operation in path.values())
    assert document["info"]["title"] == "Posewire"
