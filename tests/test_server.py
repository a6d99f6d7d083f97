"""The service as an operator runs it: a process of its own, a port, signals, real concurrency."""

import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from itertools import count

import httpx
import numpy as np
import psutil
import pytest

from posewire.registry.store import default_root
from tests.answers import numbers
from tests.sample_images import ASTRONAUT, encode, landscape, variations
from tests.server_process import Server, serve


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(max_in_flight="256") as running:
        yield running


def people(answer: httpx.Response) -> list[dict[str, object]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["images"][0]["people"]
    return found


def assert_same_people(found: object, expected: object) -> None:
    assert len(numbers(found)) == len(numbers(expected))
    np.testing.assert_allclose(numbers(found), numbers(expected), atol=1e-3)


async def post(client: httpx.AsyncClient, image: bytes, media_type: str = "image/jpeg") -> httpx.Response:
    return await client.post("/v1/pose", content=image, headers={"Content-Type": media_type})


def test_http_and_command_line_agree(server: Server) -> None:
    over_http = httpx.post(f"{server.url}/v1/pose", content=ASTRONAUT.read_bytes(), headers={"Content-Type": "image/jpeg"})
    command = [sys.executable, "-m", "posewire", "predict", str(ASTRONAUT), "--json"]
    printed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert_same_people(printed["people"], people(over_http))
    assert people(over_http)


async def test_200_concurrent_requests_get_their_own_answers(server: Server) -> None:
    images = variations(20)
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=120, headers={"X-Request-Timeout-Ms": "10000"}) as client:
        alone = [people(await post(client, image)) for image in images]
        together = await asyncio.gather(*(post(client, images[i % len(images)]) for i in range(200)))
    assert sum(map(len, alone)) >= len(images) // 2
    for i, answer in enumerate(together):
        assert_same_people(people(answer), alone[i % len(images)])


@pytest.mark.parametrize("send", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_under_load_loses_nothing_that_was_accepted(send: signal.Signals) -> None:
    """Every request that reached the service, by its log, is answered; what finds the port closed was not accepted."""
    image = ASTRONAUT.read_bytes()
    with serve(max_in_flight="256", drain_s="0.5") as server:
        answered: list[str] = []
        turned_away: list[str] = []
        numbering = count()
        load_is_on = asyncio.Event()

        async def ask_until_closed(name: int) -> None:
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                while True:
                    request_id = f"{name}-{next(numbering)}"
                    client.headers["X-Request-Id"] = request_id
                    try:
                        assert people(await post(client, image))
                        answered.append(request_id)
                    except httpx.TransportError:
                        turned_away.append(request_id)
                        return
                    if len(answered) >= 16:
                        load_is_on.set()

        async with asyncio.timeout(60), asyncio.TaskGroup() as clients:
            for name in range(16):
                clients.create_task(ask_until_closed(name))
            await load_is_on.wait()
            server.process.send_signal(send)
        assert server.process.wait(30) == 0
    reached = [str(entry["request_id"]) for entry in server.log if entry["message"] == "request"]
    assert sorted(reached) == sorted(answered)
    assert len(turned_away) == 16


def bomb_png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


async def test_bad_input_takes_no_memory_and_harms_nobody(server: Server) -> None:
    good = ASTRONAUT.read_bytes()
    bad = [
        (b"", "image/jpeg", 400),
        (good[: len(good) // 2], "image/jpeg", 400),
        (encode(landscape(), ".png")[:5000], "image/png", 400),
        (bomb_png(100_000), "image/png", 413),
        (b"this is no image\n" * 50, "image/jpeg", 400),
        (b"a=1&b=2", "application/x-www-form-urlencoded", 415),
        (bytes(21_000_000), "image/png", 413),
        (b'{"images": [', "application/json", 400),
        (b'{"images": []}', "application/json", 422),
    ]
    process = psutil.Process(server.process.pid)
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        for _ in range(5):  # what a first time allocates, such as the allocator's arenas, is no leak
            for body, media_type, _ in bad:
                await post(client, body, media_type)
        before = process.memory_info().rss
        for _ in range(20):
            for body, media_type, status in bad:
                answer = await post(client, body, media_type)
                assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
                assert answer.json()["status"] == status
            assert people(await post(client, good))
        assert process.memory_info().rss < before + 40_000_000


async def test_a_huge_image_within_the_limits_is_answered(server: Server) -> None:
    image = encode(landscape(7000, 7000))
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        answer = await post(client, image)
    assert [person for person in people(answer) if person["score"] != 0] == []  # the detector may doubt, the pose model does not
    assert answer.json()["images"][0]["width"] == 7000


def test_a_damaged_model_refuses_to_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = tmp_path_factory.mktemp("store")
    for source in default_root().rglob("*"):
        if source.is_file():
            target = store / source.relative_to(default_root())
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(source.read_bytes())
    damaged = store / "weights" / "litehrnet18-wider-128x96.onnx"  # of the default pair
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    run = subprocess.run(
        [sys.executable, "-m", "posewire", "serve", "--port", "0"],
        check=False,
        env={"POSEWIRE_MODEL_STORE": str(store), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert damaged.name in last
    assert "sha256" in last
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_all_addresses_of_both_families_are_served_and_a_port_in_use_is_one_line() -> None:
    with serve(host="::") as server:
        port = httpx.URL(server.url).port
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{port}/livez").status_code == 200
        for host in ("127.0.0.1", "::1", "::"):
            command = [sys.executable, "-m", "posewire", "serve", "--host", host, "--port", str(port)]
            second = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
            assert second.returncode == 1
            assert second.stderr.count("\n") == 1
            assert "address already in use" in second.stderr
