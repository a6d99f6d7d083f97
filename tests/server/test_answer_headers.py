"""Every kind of answer has the request's id, and the headers that make browsers careful."""

from pathlib import Path

import httpx
import pytest

from posewire.config import load_settings
from posewire.server.app import create_app, create_ops_app
from posewire.server.auth import new_key
from tests.server.by_hand import Wire
from tests.server.streaming import Listen
from tests.server.support import JPEG

ID = "of-the-caller"
SECURE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "frame-ancestors 'none'",
}


def assert_complete(headers: httpx.Headers, request_id: str | None = ID) -> None:
    """All headers of every answer are there, each once."""
    assert {name: headers.get_list(name) for name in SECURE} == {name: [value] for name, value in SECURE.items()}
    [given] = headers.get_list("x-request-id")
    assert given == request_id or (request_id is None and len(given) == 32)


async def test_answers_over_http(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with httpx.AsyncClient(base_url=server.url, headers={"X-Request-Id": ID}, timeout=60) as client:
        good = await client.post("/v1/pose", content=astronaut, headers=JPEG)
        answers = [good, await client.post("/v1/pose", content=b"", headers=JPEG), await client.get("/nowhere"), await client.get("/livez")]
        assert [answer.status_code for answer in answers] == [200, 400, 404, 200]
        for answer in answers:
            assert_complete(answer.headers)
        page = await client.get("/")  # it has a policy of its own
        assert page.headers.get_list("x-content-type-options") == ["nosniff"]
        [policy] = page.headers.get_list("content-security-policy")
        assert "script-src 'self'" in policy


async def test_a_handshake_that_is_accepted(listen: Listen) -> None:
    server = await listen()
    async with server.connect(headers={"X-Request-Id": ID}) as connection:
        assert connection.response is not None
        headers = httpx.Headers(list(connection.response.headers.raw_items()))
    assert_complete(headers)
    assert headers["connection"].lower() == "upgrade"


@pytest.mark.parametrize(("path", "status"), [("/v1/stream", 401), ("/v1/nothing", 404), ("/v1/stream", 503)])
async def test_a_handshake_that_is_rejected(listen: Listen, tmp_path: Path, path: str, status: int) -> None:
    key, line = new_key("camera-1")
    keys = tmp_path / "keys"
    keys.write_text(line)
    server = await listen(max_streams=1, api_keys_file=keys)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "A" * 22 + "=="}
    async with server.stream(key=key), httpx.AsyncClient(base_url=server.url, headers=upgrade | {"X-Request-Id": ID}) as client:
        answer = await client.get(path, headers={} if status == 401 else {"Authorization": f"Bearer {key}"})
    assert answer.status_code == status
    assert answer.json()["request_id"] == ID
    assert_complete(answer.headers)


async def test_a_head_that_is_rejected_before_it_is_a_request(listen: Listen) -> None:
    server = await listen(max_target_bytes=1000)
    for head, expected in ((b"nonsense\r\n\r\n", 400), (b"GET /%b HTTP/1.1\r\nHost: p\r\n\r\n" % (b"a" * 2000), 414)):
        wire = await Wire.open(server)
        await wire.send(head)
        status, headers, _ = await wire.answer()
        wire.close()
        assert status == expected
        assert {name: headers[name] for name in SECURE} == {name: value.lower() for name, value in SECURE.items()}
        assert (len(headers["x-request-id"]), headers["connection"]) == (32, "close")


async def test_the_port_for_operations() -> None:
    app = create_app(load_settings({}))
    ops = create_ops_app(app.state.services)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ops), base_url="http://p", headers={"X-Request-Id": ID}) as client:
        answers = [await client.get(path) for path in ("/livez", "/readyz", "/metrics", "/nowhere")]
    assert [answer.status_code for answer in answers] == [200, 503, 200, 404]
    for answer in answers:
        assert_complete(answer.headers)
