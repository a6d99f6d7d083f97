"""Who is let in, over ASGI as uvicorn speaks it: what a refused client sent is never asked for."""

import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from starlette.routing import Mount, Route, WebSocketRoute

from posewire.config import load_settings
from posewire.errors import ConfigError
from posewire.server.auth import new_key
from tests.server.support import JPEG, Api, StartApi, assert_problem, eventually

HOST = (b"host", b"posewire.example")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    """A keys file with one key, and that key."""
    key, line = new_key("camera-1")
    path = tmp_path / "keys"
    path.write_text(f"# who may\n{line}\n")
    return path, key


@pytest.fixture
async def locked(start_api: StartApi, keys: tuple[Path, str]) -> Api:
    return await start_api(api_keys_file=keys[0])


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def refuse_to_be_read() -> dict[str, Any]:
    raise AssertionError("what the client sends was asked for")


async def converse(api: Api, scope: dict[str, Any], *incoming: dict[str, Any]) -> list[dict[str, Any]]:
    """What the app sends for a scope whose client sends `incoming`, and nothing more is asked for."""
    messages, sent = iter(incoming), []

    async def receive() -> dict[str, Any]:
        return next(messages, None) or await refuse_to_be_read()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await api.app({"asgi": {"version": "3.0"}, "query_string": b"", "client": ("192.0.2.7", 5000), **scope}, receive, send)  # type: ignore[arg-type]
    return sent


async def open_stream(api: Api, *headers: tuple[bytes, bytes], subprotocols: tuple[str, ...] = (), leaves: bool = True) -> dict[str, Any]:
    """The first thing that a client of the WebSocket is sent; one that is let in leaves at once."""
    scope: dict[str, Any] = {
        "type": "websocket",
        "scheme": "ws",
        "path": "/v1/stream",
        "headers": [HOST, *headers],
        "subprotocols": list(subprotocols),
    }
    scope["extensions"] = {"websocket.http.response": {}}
    incoming: list[dict[str, Any]] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}] if leaves else []
    return (await converse(api, scope, *incoming))[0]


def paths(api: Api) -> set[str]:
    """Every path that the app routes, and one that it does not."""
    found = {"/nowhere"}
    for route in api.app.routes:
        if isinstance(route, Route | WebSocketRoute):
            found.add(route.path)
        elif isinstance(route, Mount):
            found.add(f"{route.path}/anything")
    return found | set(api.app.openapi()["paths"])


@pytest.mark.parametrize("sent", [{}, bearer("pw_wrong"), bearer(""), {"Authorization": "Basic cHc6cHc="}, bearer("\xe9")])
async def test_every_route_but_health_and_the_page_refuses_a_missing_or_wrong_key_unread(locked: Api, sent: dict[str, str]) -> None:
    headers = [HOST, *[(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()]]
    closed = paths(locked) - {"/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready", "/", "/cameras", "/web/anything"}
    assert {"/v1/pose", "/v1/models", "/metrics", "/docs"} <= closed
    for path in closed:
        for method in ("GET", "POST"):
            scope = {"type": "http", "http_version": "1.1", "scheme": "http", "method": method, "path": path, "headers": headers}
            start = (await converse(locked, scope))[0]
            assert start["status"] == 401, path
            answered = dict(start["headers"])
            assert (answered[b"www-authenticate"], answered[b"connection"]) == (b"Bearer", b"close")


async def test_health_needs_no_key(locked: Api) -> None:
    assert (await locked.client.get("/livez")).status_code == 200
    assert (await locked.client.get("/readyz")).status_code == 200


async def test_the_demo_page_needs_no_key_and_opens_nothing_else(locked: Api) -> None:
    for path in ("/", "/cameras", "/web/app.js", "/web/style.css"):
        assert (await locked.client.get(path)).status_code == 200
        assert (await locked.client.post(path)).status_code == 401
    for path in ("/web", "/web/../v1/models", "/web/%2e%2e/v1/models", "//", "/webx"):
        scope = {"type": "http", "http_version": "1.1", "scheme": "http", "method": "GET", "path": unquote(path), "headers": [HOST]}
        assert (await converse(locked, scope))[0]["status"] in (401, 404), path


def long_ago(path: Path) -> None:
    """Make a file look as if it had been written a minute ago."""
    os.utime(path, (time.time() - 60,) * 2)


async def test_a_key_lets_in(locked: Api, keys: tuple[Path, str], astronaut: bytes) -> None:
    answer = await locked.post(astronaut, bearer(keys[1]))
    assert answer.status_code == 200
    assert_problem(await locked.post(astronaut), 401, "unauthorized", "Bearer")


async def test_a_revoked_key_is_refused_and_a_new_one_taken_without_a_restart(locked: Api, keys: tuple[Path, str]) -> None:
    path, old = keys
    new, line = new_key("camera-2")
    replacement = path.with_suffix(".new")
    replacement.write_text(line)
    long_ago(replacement)
    os.replace(replacement, path)  # noqa: PTH105 - as a secret's link is exchanged
    assert (await locked.client.get("/v1/models", headers=bearer(old))).status_code == 401
    assert (await locked.client.get("/v1/models", headers=bearer(new))).status_code == 200


async def test_a_keys_file_that_is_being_written_changes_nothing(
    locked: Api, keys: tuple[Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    path, old = keys
    new, line = new_key("camera-2")

    async def status(key: str) -> int:
        return (await locked.client.get("/v1/models", headers=bearer(key))).status_code

    for half in ("", "# who may\n", f"{line[:-9]}", f"{line}\n"):
        path.write_text(half)
        assert await status(old) == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    future = time.time() + 3600  # the clock of a file server may be wrong
    os.utime(path, (future, future))

    async def read() -> bool:
        return await status(new) == 200

    await eventually(read)
    assert await status(old) == 401


async def test_a_keys_file_that_breaks_leaves_the_keys_in_force(
    locked: Api, keys: tuple[Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    path, key = keys
    path.write_text(f"camera-1 {key}\n")
    long_ago(path)
    assert (await locked.client.get("/v1/models", headers=bearer(key))).status_code == 200
    path.unlink()
    assert (await locked.client.get("/v1/models", headers=bearer(key))).status_code == 200
    complaints = [record.getMessage() for record in caplog.records if "stay in force" in record.getMessage()]
    assert len(complaints) == 2
    assert not [text for text in complaints if key in text]


@pytest.mark.parametrize("text", ["camera-1 pw_clear", "camera 1 sha256:00", "sha256:" + "0" * 64, "x sha256:" + "G" * 64])
async def test_a_wrong_keys_file_refuses_to_start_and_shows_no_line(start_api: StartApi, tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# who may\n{text}\n")
    with pytest.raises(ConfigError, match="line 2") as caught:
        await start_api(api_keys_file=path)
    assert text not in str(caught.value)
    with pytest.raises(ConfigError, match="POSEWIRE_API_KEYS_FILE"):
        await start_api(api_keys_file=tmp_path / "missing")


async def test_a_stream_needs_a_key_before_anything_is_received(locked: Api) -> None:
    for subprotocols in ((), ("posewire.v1",), ("posewire.v1", "posewire.key.pw_wrong")):
        first = await open_stream(locked, subprotocols=subprotocols, leaves=False)
        assert (first["type"], first["status"]) == ("websocket.http.response.start", 401)


async def test_a_stream_brings_its_key_as_a_header_or_a_subprotocol(locked: Api, keys: tuple[Path, str]) -> None:
    _, key = keys
    first = await open_stream(locked, (b"authorization", f"bearer {key}".encode()))
    assert (first["type"], first.get("subprotocol")) == ("websocket.accept", None)
    first = await open_stream(locked, subprotocols=("posewire.v1", f"posewire.key.{key}"))
    assert (first["type"], first["subprotocol"]) == ("websocket.accept", "posewire.v1")


@pytest.mark.parametrize(
    ("origin", "opens"),
    [
        ("http://posewire.example", True),
        ("https://POSEWIRE.example", True),
        ("https://friend.example", True),
        ("https://posewire.example.evil.example", False),
        ("https://evil.example", False),
        ("https://friend.example:8443", False),
        ("null", False),
    ],
)
async def test_only_our_own_page_and_those_listed_open_streams(start_api: StartApi, origin: str, opens: bool) -> None:
    api = await start_api(allowed_origins="https://friend.example, http://other.example")
    first = await open_stream(api, (b"origin", origin.encode()), leaves=opens)
    assert first["type"] == ("websocket.accept" if opens else "websocket.http.response.start")
    assert first.get("status") == (None if opens else 403)


async def test_cors_is_closed_by_default_and_open_to_those_listed(start_api: StartApi, keys: tuple[Path, str]) -> None:
    asks = {"Origin": "https://friend.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    closed = await (await start_api()).client.options("/v1/pose", headers=asks)
    assert "access-control-allow-origin" not in closed.headers
    api = await start_api(allowed_origins="https://friend.example", api_keys_file=keys[0])
    assert (await api.client.options("/v1/pose", headers=asks)).headers["access-control-allow-origin"] == "https://friend.example"
    assert (await api.client.options("/v1/pose", headers=asks | {"Origin": "https://evil.example"})).status_code == 400
    refused = await api.client.get("/v1/models", headers={"Origin": "https://friend.example"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://friend.example")


async def test_browsers_are_told_to_be_careful(api: Api, astronaut: bytes) -> None:
    for answer in (await api.post(astronaut), await api.client.get("/nowhere"), await api.client.get("/docs")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("origins", ["friend.example", "https://a.example/path", "https://a.example https://b.example"])
def test_an_origin_that_can_match_nothing_is_refused(origins: str) -> None:
    with pytest.raises(ConfigError, match="POSEWIRE_ALLOWED_ORIGINS"):
        load_settings({}, allowed_origins=origins)


async def test_neither_key_nor_image_reaches_the_log(
    locked: Api, keys: tuple[Path, str], astronaut: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    answer = await locked.client.post(f"/v1/pose?key={keys[1]}", content=astronaut, headers=JPEG | bearer(keys[1]))
    assert isinstance(answer, httpx.Response)
    [entry] = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    assert entry["client"] == "key camera-1"
    assert not [r for r in caplog.records if r.name.startswith("posewire") and keys[1] in str(vars(r))]
