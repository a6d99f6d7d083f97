"""Hosts, origins and paths that are not the service's own, and the client that a limit counts."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from starlette.requests import HTTPConnection
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from posewire.config import load_settings
from posewire.errors import ConfigError
from posewire.server.app import create_app
from posewire.server.limits import client_of
from tests.server.by_hand import Wire
from tests.server.streaming import Listen
from tests.server.support import assert_problem, chunks

EVIL = "https://evil.example"
HOSTS = "pose.example, *.cameras.example,192.0.2.7,2001:db8::7,LOCALHOST"


def unread() -> Iterator[bytes]:
    pytest.fail("the body was read")
    yield b""


MALFORMED = [
    "http://[",
    "http://[::1",
    "http://]",
    "http://posewire:port",
    "http://posewire:99999999",
    "http://",
    "posewire",
    "null",
    "\xe9://",
]


def client_to(**settings: object) -> httpx.AsyncClient:
    """A client of an app without models: what is refused here needs none."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(load_settings({}, **settings))), base_url="http://posewire")


@pytest.mark.parametrize("origin", [EVIL, "http://posewire.evil.example", "http://posewire:8000", "http://u@posewire:1", *MALFORMED])
async def test_a_foreign_page_sends_nothing(origin: str) -> None:
    client, headers = client_to(), {b"Origin": origin.encode("latin-1")}
    for path in ("/v1/pose", "/v1/video", "/nowhere"):
        answer = await client.post(path, content=chunks(unread()), headers=headers)
        assert_problem(answer, 403, "foreign-origin", "POSEWIRE_ALLOWED_ORIGINS")
        assert answer.headers["Connection"] == "close"
    assert (await client.get("/v1/models", headers=headers)).status_code == 200
    metrics = (await client.get("/metrics")).text
    assert 'posewire_rejections_total{limit="",reason="foreign-origin"} 3.0' in metrics


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://posewire"},
        {"Origin": "HTTP://POSEWIRE:80"},
        {"Origin": "https://posewire"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://proxied.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_our_own_page_listed_ones_and_programs_do(headers: dict[str, str]) -> None:
    answer = await client_to(allowed_origins="https://friend.example").post("/v1/pose", content=b"", headers=headers)
    assert_problem(answer, 503, "not-ready")  # it came through


async def test_a_page_of_another_site_sends_nothing_without_an_origin_either() -> None:
    for more in ({}, {"Origin": "http://posewire"}):
        answer = await client_to().post("/v1/pose", content=chunks(unread()), headers={"Sec-Fetch-Site": "cross-site"} | more)
        assert_problem(answer, 403, "foreign-origin")


async def test_any_origin_may_be_allowed() -> None:
    headers = {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    assert_problem(await client_to(allowed_origins="*").post("/v1/pose", content=b"", headers=headers), 503, "not-ready")


async def test_a_stream_of_a_malformed_origin_is_refused(listen: Listen) -> None:
    server = await listen()
    for origin in MALFORMED[:-1]:
        with pytest.raises(InvalidStatus) as caught:
            await server.connect(headers={"Origin": origin})
        assert caught.value.response.status_code == 403, origin


HANDSHAKE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
BAD_HOSTS = [
    b"",
    b"Host: posewire\r\nHost: posewire\r\n",
    b"Host: posewire\r\nHost: evil.example\r\n",
    b"Host: posewire/x\r\n",
    b"Host: u@posewire\r\n",
    b"Host: a b\r\n",
    b"Host: [::1\r\n",
    b"Host: posewire:x\r\n",
    b"Host: pos\xe9wire\r\n",
]


async def test_a_request_has_one_valid_host(listen: Listen) -> None:
    server = await listen()
    for host in BAD_HOSTS:
        for more in (b"", HANDSHAKE):
            wire = await Wire.open(server)
            await wire.send(b"GET /v1/stream HTTP/1.1\r\n" + host + more + b"\r\n")
            status, headers, _ = await wire.answer()
            assert (status, headers["content-type"]) == (400, "application/problem+json"), host
            wire.close()
    for version, expected in ((b"1.0", 200), (b"1.1", 400)):
        wire = await Wire.open(server)
        await wire.send(b"GET /v1/models HTTP/%b\r\nConnection: close\r\n\r\n" % version)
        assert (await wire.answer())[0] == expected
        wire.close()


ALLOWED = ["pose.example", "POSE.example:8000", "pose.example.", "a.cameras.example", "a.b.cameras.example:1", "192.0.2.7:80"]
ALLOWED += ["[2001:db8::7]:8000", "[2001:DB8:0::7]", "localhost"]


@pytest.mark.parametrize("host", ALLOWED)
async def test_a_listed_host_is_served(host: str) -> None:
    assert (await client_to(allowed_hosts=HOSTS).get("/v1/models", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "cameras.example", "xcameras.example", "pose.example.evil.example", "127.0.0.1", "[::1]", ""]
)
async def test_another_host_is_not_but_for_its_health(host: str) -> None:
    client = client_to(allowed_hosts=HOSTS)
    for method, path in (("POST", "/v1/pose"), ("GET", "/v1/models"), ("GET", "/"), ("GET", "/metrics"), ("POST", "/livez")):
        answer = await client.request(method, path, headers={"Host": host})
        assert_problem(answer, 421, "misdirected", "POSEWIRE_ALLOWED_HOSTS")
    for path, status in (("/livez", 200), ("/readyz", 503), ("/healthz", 503)):  # there are no models
        assert (await client.get(path, headers={"Host": host})).status_code == status


async def test_a_stream_for_another_host_is_refused(listen: Listen) -> None:
    server = await listen(allowed_hosts="pose.example")
    with pytest.raises(InvalidStatus) as caught:
        await server.connect()
    assert caught.value.response.status_code == 421
    allowed = await listen(allowed_hosts="127.0.0.1")
    async with allowed.stream():
        pass


@pytest.mark.parametrize("hosts", ["https://pose.example", "pose.example:8000", "*", "a.*.example", "pose example", "a,,b"])
def test_a_host_that_can_match_nothing_is_refused(hosts: str) -> None:
    with pytest.raises(ConfigError, match="POSEWIRE_ALLOWED_HOSTS"):
        load_settings({}, allowed_hosts=hosts)


async def test_a_stream_to_another_path_is_not_found(listen: Listen) -> None:
    server = await listen()
    for path in ("/nope", "/", "/v1/pose", "/v1/models", "/web/app.js", "/docs/static/x", "/v1/stream/"):
        for headers in ({}, {"Origin": server.url}):
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=headers)
            response = caught.value.response
            assert (response.status_code, response.headers["Content-Type"]) == (404, "application/problem+json"), path
            assert b"/v1/stream" in response.body


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "address 192.0.2.7"),
        ("::ffff:192.0.2.7", "address 192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "address 2001:db8:1:2::/64"),
        ("2001:0DB8:1:2::ffff", "address 2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "address 2001:db8:1:3::/64"),
        ("fe80::1%eth0", "address fe80::/64"),
        ("made-up", "address unknown"),
        ("192.0.2.7, 1", "address unknown"),
        ("", "address unknown"),
    ],
)
def test_limits_count_addresses_and_networks_of_ipv6(host: str, client: str) -> None:
    assert client_of(HTTPConnection({"type": "http", "client": (host, 1), "headers": []})) == client


async def test_made_up_addresses_behind_a_trusted_proxy_are_one_client(listen: Listen, astronaut: bytes) -> None:
    server = await listen(rate_limit=0.001, rate_burst=2, trusted_proxies="127.0.0.1")
    head = b"POST /v1/pose HTTP/1.1\r\nHost: posewire\r\nX-Forwarded-For: %b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"

    async def status(forwarded: bytes) -> int:
        wire = await Wire.open(server)
        await wire.send(head % (forwarded, len(astronaut)) + astronaut)
        async with asyncio.timeout(60):
            found = (await wire.answer())[0]
        wire.close()
        return found

    assert [await status(b"garbage-%d" % i) for i in range(3)] == [200, 200, 429]
    assert [await status(b"2001:db8::%d" % i) for i in range(3)] == [200, 200, 429]
    assert await status(b"192.0.2.1") == 200
