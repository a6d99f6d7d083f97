"""Every route that reads a body waits for it as long as the others do: a slow one gets 408."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from posewire.schemas.inference_protocol import MODEL
from posewire.server import bodies
from tests.server.support import JPEG, JSON, MULTIPART, Api, assert_problem, people_of

MP4 = {"Content-Type": "video/mp4"}
SDP = {"Content-Type": "application/sdp"}
ROUTES = {
    "an image": ("POST", "/v1/pose", JPEG),
    "a form": ("POST", "/v1/pose", MULTIPART),
    "JSON": ("POST", "/v1/pose", JSON),
    "an image alone": ("POST", "/v1/pose/image", JPEG),
    "JSON alone": ("POST", "/v1/pose/json", JSON),
    "a drawing": ("POST", "/v1/pose/drawing", JPEG),
    "tensors": ("POST", f"/v2/models/{MODEL}/infer", JSON),
    "a video": ("POST", "/v1/video", MP4),
    "a new camera": ("POST", "/v1/cameras", JSON),
    "a changed camera": ("PATCH", "/v1/cameras/{name}", JSON),
    "an offer": ("POST", "/v1/whip", SDP),
}
# These look for their camera or session before they read, by the function that reads an offer.
OF_SESSIONS = {
    ("POST", "/v1/cameras/{name}/whep"),
    ("PATCH", "/v1/whip/{session_id}"),
    ("PATCH", "/v1/cameras/{name}/whep/{session_id}"),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WAIT_S", 0.2)
    monkeypatch.setattr(bodies, "MAX_WAIT_S", 0.4)


async def stuck(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body that does not go on."""
    for piece in pieces:
        yield piece
    await asyncio.Event().wait()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ROUTES)
async def test_a_body_that_stops_is_answered_with_408(name: str, api: Api) -> None:
    method, path, headers = ROUTES[name]
    answer = await api.client.request(method, path.format(name="door"), content=stuck(b"-"), headers=headers)
    assert (answer.status_code, answer.headers["Connection"]) == (408, "close")
    assert "the body arrives too slowly" in answer.text


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ["an image", "a video", "a new camera"])
async def test_a_large_beginning_earns_no_long_silence(name: str, api: Api) -> None:
    method, path, headers = ROUTES[name]
    async with asyncio.timeout(20):  # 500,000 bytes at the least rate take 50 s
        answer = await api.client.request(method, path, content=stuck(bytes(500_000)), headers=headers)
    assert_problem(answer, 408, "timed-out", "without long pauses")


def test_every_route_with_a_body_is_among_those(api: Api) -> None:
    documented = {
        (method.upper(), path)
        for path, operations in api.app.openapi()["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    }
    assert documented == {(method, path) for method, path, _ in ROUTES.values() if not path.startswith("/v2")} | OF_SESSIONS


@pytest.mark.usefixtures("impatient")
async def test_a_slow_body_is_taken_if_it_is_fast_enough(api: Api, astronaut: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(astronaut), 20_000):
            yield astronaut[at : at + 20_000]
            await asyncio.sleep(0.1)  # the least rate allows 2 s

    people_of(await api.client.post("/v1/pose", content=pieces(), headers=JPEG))


async def test_the_body_of_a_camera_has_a_limit(api: Api) -> None:
    answer = await api.client.post("/v1/cameras", content=stuck(*[bytes(60_000)] * 20), headers=JSON)
    assert_problem(answer, 413, "too-large", "1048576 bytes")
