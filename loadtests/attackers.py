"""Clients that mean harm, or that are only odd: `python -m loadtests.attackers NAME PID URL SECONDS` attacks one service for a stretch.

In a process of their own, so that the good clients' times are not those of the attackers' work. Prints what they got as JSON.
"""

import asyncio
import http.client
import json
import socket
import struct
import sys
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from time import perf_counter

import psutil
import uvloop

from loadtests import sample_images
from loadtests.hostile.videos import film
from loadtests.outcomes import LOST
from loadtests.processes import ROOT, Server, stand_back
from loadtests.wire import Target, request_bytes

POSE, VIDEO = "/v1/pose", "/v1/video"
# Good clients come from another address than the attackers: a limit for each client must not be what stops them.
GOOD_ADDRESS = "127.0.0.2"
_PIECE = 65536
_PATIENCE_S = 30.0
STOP_PATIENCE_S = 60.0
_VIDEO_EVERY_S = 2.0
# Small enough that the answers of a video fill the buffers of both ends within seconds.
_SMALL_SEGMENT, _SMALL_BUFFER, _MANY = 536, 4096, 16
_FULL = 30_000  # bytes of a sending queue
_H2C = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABkAAQAoAAAAAIAAAAA"}


@dataclass(frozen=True, slots=True)
class Scene:
    """A service under attack."""

    server: Server
    seconds: float  # that the attack takes
    answers: Counter[str] = field(default_factory=Counter)  # what the attackers got, by kind
    figures: dict[str, float] = field(default_factory=dict)  # what an attack has measured besides
    begin: Callable[[], None] = lambda: None  # called when all is prepared

    @property
    def target(self) -> Target:
        """Where the service listens."""
        return Target.of(self.server.url)

    def note(self, status: int, kind: str = "") -> None:
        """Count an answer."""
        self.answers[f"{kind} {status or 'no answer'}".strip()] += 1


Once = Callable[[], Awaitable[None]]


async def nothing(scene: Scene) -> None:
    """No attack: what the good clients get by themselves."""
    scene.begin()
    await asyncio.sleep(scene.seconds)


async def inflation(scene: Scene) -> None:
    """Two clients, again and again: a PNG of 10 x 10 pixels, 19 MB that inflate to 18 GiB."""
    request = request_bytes(POSE, inflating_png(19_000_000), "image/png")
    await _again(scene, 2, lambda: _ask(scene, _pieces(request)))


async def trickling_bodies(scene: Scene) -> None:
    """64 clients that send a body of 100 kB at one byte a second."""
    head = _head(POSE, "image/jpeg", 100_000)
    await _again(scene, 64, lambda: _ask(scene, chain([head], repeat(b"\xff")), pause_s=1.0))


async def long_queries(scene: Scene) -> None:
    """256 clients at once whose query has 4 MB."""
    query, size = b"a" * _PIECE, 4_000_000
    pieces = [b"POST /v1/pose?x=", *[query] * (size // _PIECE), b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"]
    await _again(scene, 256, lambda: _ask(scene, pieces))


async def long_heads(scene: Scene) -> None:
    """A client that sends 100 MB of headers, again and again."""
    line = b"X-Long: " + b"a" * 8000 + b"\r\n"
    pieces = chain([b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"], repeat(line * 8, 100_000_000 // (8 * len(line))), [b"\r\n"])
    whole = list(pieces)
    await _again(scene, 1, lambda: _ask(scene, whole))


async def large_json(scene: Scene) -> None:
    """63 clients with a JSON body of 20 MB, of which they keep the last byte."""
    head, size = _head(POSE, "application/json", 20_000_000), 20_000_000
    start = b'{"images": [{"base64": "'
    body = [start, *[b"A" * _PIECE] * ((size - len(start) - 1) // _PIECE)]
    await _again(scene, 63, lambda: _ask(scene, [head, *body, b"A" * (size - 1 - sum(map(len, body)))]))


async def non_reading_videos(scene: Scene) -> None:
    """Two clients that send a video and read nothing; then SIGTERM. `figures` has the seconds until the service has ended."""
    # Everyone of a crowd is answered, so that few frames fill the buffers.
    path = f"{VIDEO}?min_detection_score={sample_images.CROWD_SCORE}"
    request = request_bytes(path, await asyncio.to_thread(film, 300, image=sample_images.crowd(_MANY), size=640), "video/mp4")
    scene.begin()
    held = [await _silent(scene.target, request) for _ in range(2)]
    try:
        await _good_videos(scene)
        await _until_stuck(held)
        scene.figures["stop_s"] = await asyncio.to_thread(stop_time, scene.server)
    finally:
        for each in held:
            each.close()


async def trickling_videos(scene: Scene) -> None:
    """Two clients that send a video at one byte a second."""
    head = _head(VIDEO, "video/mp4", 1_000_000)
    await asyncio.gather(_again(scene, 2, lambda: _ask(scene, chain([head], repeat(b"\0")), pause_s=1.0)), _good_videos(scene))


async def one_worker_stopped(scene: Scene) -> None:
    """SIGSTOP of one process that runs models; nobody continues it."""
    scene.begin()
    scene.server.workers()[0].suspend()
    await asyncio.sleep(scene.seconds)


async def all_workers_stopped(scene: Scene) -> None:
    """SIGSTOP of all processes that run models; nobody continues them."""
    scene.begin()
    for worker in scene.server.workers():
        worker.suspend()
    await asyncio.sleep(scene.seconds)


async def upgrade_h2c(scene: Scene) -> None:
    """Two clients that offer HTTP/2 with `Upgrade: h2c`, as the JDK's HttpClient and curl --http2 do."""
    request = request_bytes(POSE, sample_images.single(), **_H2C)
    await _again(scene, 2, lambda: _ask(scene, [request]))


async def slow_heads(scene: Scene) -> None:
    """200 clients that send their head at one byte a second."""
    head = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
    await _again(scene, 200, lambda: _ask(scene, chain((head[i : i + 1] for i in range(len(head))), repeat(b"a")), pause_s=1.0))


async def idle_connections(scene: Scene) -> None:
    """500 connections on which nobody says a word."""
    await _again(scene, 500, lambda: _ask(scene, [], patience_s=2 * scene.seconds))


async def refused_uploads(scene: Scene) -> None:
    """urllib, which sends its body before it reads: 8 MB that the service refuses by their type, path, site or size."""
    small, large = b"\xff\xd8" * 4_000_000, b"\xff\xd8" * 12_500_000
    kinds = (
        ("415", POSE, {"Content-Type": "text/plain"}, small),
        ("404", "/v1/nothing", {"Content-Type": "image/jpeg"}, small),
        ("403", POSE, {"Content-Type": "image/jpeg", "Origin": "http://elsewhere.example"}, small),
        ("413", POSE, {"Content-Type": "image/jpeg"}, large),
    )
    numbers = iter(range(10**9))

    async def once() -> None:
        kind, path, headers, body = kinds[next(numbers) % len(kinds)]
        status = await asyncio.to_thread(_urllib_status, scene.server.url + path, headers, body)
        scene.note(status, f"{kind}:")

    await _again(scene, 2, once)
    scene.figures["reset_share"] = sum(n for name, n in scene.answers.items() if "no answer" in name) / max(1, scene.answers.total())


def inflating_png(size: int) -> bytes:
    """A PNG of 10 x 10 pixels with about `size` bytes of compressed data, which inflate to a thousand times as much.

    The data is one block of zeros after another: a block that ends with a full flush may be repeated as it is.
    """
    compressor = zlib.compressobj(9)
    first = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    data = first + block * (max(0, size - len(first)) // len(block)) + compressor.flush()
    header = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content)) for name, content in chunks
    )


def stop_time(server: Server) -> float:
    """Seconds from SIGTERM to the end of the service; -1 where it has not ended after a minute."""
    started = perf_counter()
    server.process.terminate()
    return perf_counter() - started if server.ended(STOP_PATIENCE_S) else -1.0


async def _again(scene: Scene, clients: int, once: Once) -> None:
    """So many clients that begin anew when they were answered or cut off, until the time is over."""

    async def client() -> None:
        while True:
            began = perf_counter()
            await once()
            # Who is turned away at once comes back, but not in a busy loop: the attack is to take the service's time, not ours.
            await asyncio.sleep(max(0.0, 0.1 - (perf_counter() - began)))

    scene.begin()
    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    await asyncio.wait(tasks, timeout=scene.seconds, return_when=asyncio.FIRST_EXCEPTION)
    broken = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in broken:
        task.result()


async def _ask(scene: Scene, pieces: Iterable[bytes], *, pause_s: float = 0.0, patience_s: float = _PATIENCE_S) -> None:
    """Send a request piece by piece, until it is answered or cut off; note the status of the answer."""
    try:
        reader, writer = await asyncio.open_connection(scene.target.host, scene.target.port)
    except OSError:
        scene.note(LOST)
        return
    answer, sending = asyncio.create_task(reader.readline()), asyncio.create_task(_send(writer, pieces, pause_s))
    try:
        await asyncio.wait([answer, sending], timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            await asyncio.wait([answer], timeout=patience_s)
        scene.note(_status(answer))
    finally:
        answer.cancel()
        sending.cancel()
        await asyncio.gather(answer, sending, return_exceptions=True)
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes], pause_s: float) -> None:
    for piece in pieces:
        if writer.is_closing():
            return
        writer.write(piece)
        await writer.drain()
        if pause_s:
            await asyncio.sleep(pause_s)


def _status(answer: asyncio.Task[bytes]) -> int:
    if not answer.done() or answer.exception() or not answer.result().startswith(b"HTTP/1.1 "):
        return LOST
    return int(answer.result().split()[1])


def _pieces(request: bytes) -> Iterator[bytes]:
    return (request[start : start + _PIECE] for start in range(0, len(request), _PIECE))


def _head(path: str, content_type: str, length: int) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {content_type}", f"Content-Length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def _silent(target: Target, request: bytes) -> socket.socket:
    """A connection on which a request was sent and from which nothing is read."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SMALL_SEGMENT)
    await loop.sock_connect(connection, (target.host, target.port))
    await loop.sock_sendall(connection, request)
    return connection


async def _until_stuck(connections: Sequence[socket.socket]) -> None:
    """Wait until the service's sending side of each is full and stands still, or until it has closed them; a minute at most."""
    ports, before = [connection.getsockname()[1] for connection in connections], None
    for _ in range(30):
        unsent = _unsent(ports)
        if unsent == before and all(size is None or size > _FULL for size in unsent):
            return
        before = unsent
        await asyncio.sleep(2)


def _unsent(ports: Sequence[int]) -> list[int | None]:
    """Bytes in the kernel's sending queues to these ports of this machine, as proc(5) tells them; None: no connection is open."""
    queues = {}
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, _, remote, state, queue, *_ = line.split()
        if state == "01":  # established
            queues[int(remote.rpartition(":")[2], 16)] = int(queue.partition(":")[0], 16)
    return [queues.get(port) for port in ports]


async def _good_videos(scene: Scene) -> None:
    """A client whose video is a second long, every two seconds."""
    video, ends = await asyncio.to_thread(film, 10), perf_counter() + scene.seconds
    while (left := ends - perf_counter()) > 0:
        await asyncio.sleep(min(left, _VIDEO_EVERY_S))
        scene.note(await asyncio.to_thread(_video_status, scene.target, video), "a good video:")


def _video_status(target: Target, video: bytes) -> int:
    connection = http.client.HTTPConnection(target.host, target.port, timeout=_PATIENCE_S, source_address=(GOOD_ADDRESS, 0))
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("POST", VIDEO, video, {"Content-Type": "video/mp4"})
        answer = connection.getresponse()
        whole = answer.read()
        return answer.status if answer.status != 200 or b'"end"' in whole else LOST
    return LOST


def _urllib_status(url: str, headers: dict[str, str], body: bytes) -> int:
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error, suppress(ValueError, OSError):
            json.load(error)
        return error.code
    except OSError:
        return LOST


ATTACKS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "none": nothing,
    "png-inflation": inflation,
    "trickling-bodies": trickling_bodies,
    "long-queries": long_queries,
    "long-heads": long_heads,
    "large-json": large_json,
    "non-reading-videos": non_reading_videos,
    "trickling-videos": trickling_videos,
    "one-worker-stopped": one_worker_stopped,
    "all-workers-stopped": all_workers_stopped,
    "upgrade-h2c": upgrade_h2c,
    "slow-heads": slow_heads,
    "idle-connections": idle_connections,
    "refused-uploads": refused_uploads,
}


async def attack(name: str, server: Server, seconds: float, began: asyncio.Event) -> Scene:
    """Attack a service in a process of its own; the scene as it was in the end.

    Args:
        name: of `ATTACKS`.
        server: the service.
        seconds: of the attack.
        began: is set when the attack begins.

    Raises:
        RuntimeError: the attackers failed by themselves.
    """
    command = [sys.executable, "-m", "loadtests.attackers", name, str(server.process.pid), server.url, str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        began.set()
        out, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode:
        raise RuntimeError(f"the attackers of {name} ended with code {process.returncode}")
    report = json.loads(out)
    return Scene(server, seconds, Counter(report["answers"]), report["figures"])


async def _run(name: str, scene: Scene) -> None:
    await ATTACKS[name](scene)


if __name__ == "__main__":
    _name, _pid, _url, _seconds = sys.argv[1:]
    _scene = Scene(Server(psutil.Process(int(_pid)), _url), float(_seconds), begin=partial(print, "began", flush=True))
    stand_back()
    uvloop.run(_run(_name, _scene))
    print(json.dumps({"answers": _scene.answers, "figures": _scene.figures}))
