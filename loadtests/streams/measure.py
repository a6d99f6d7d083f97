"""Streams against a server of its own, on loopback: how old results are, what is dropped, who is harmed.

    python -m loadtests.streams.measure rates          1 to 32 streams at 5 frames/s
    python -m loadtests.streams.measure hostile        bad clients beside a good one; the server's memory
    python -m loadtests.streams.measure video FILE     a video at 10 frames/s

Each takes two minutes or less.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import cv2
import psutil
from websockets.asyncio.client import ClientConnection, connect

from posewire.client import AsyncPoseClient, StreamResult
from tests.sample_images import ASTRONAUT
from tests.server_process import serve

START = '{"type": "start"}'
IMAGE = ASTRONAUT.read_bytes()
LINK_BYTES_S = 200_000


async def paced(frames: list[bytes], rate: float, delay_s: float = 0.0) -> AsyncIterator[bytes]:
    """Each frame at its time."""
    started = time.monotonic() + delay_s
    for i, frame in enumerate(frames):
        await asyncio.sleep(started + i / rate - time.monotonic())
        yield frame


async def stream(url: str, frames: list[bytes], rate: float, delay_s: float = 0.0, *, track: bool = True) -> list[StreamResult]:
    """The answers that a well-behaved client gets."""
    async with AsyncPoseClient(url) as client, client.stream(track=track) as opened:
        return [result async for result in opened.results(paced(frames, rate, delay_s))]


def describe(results: list[StreamResult], sent: int) -> str:
    """Ages of the results in milliseconds, and the share of the frames without one."""
    ages = sorted(r.answer.age_ms for r in results if r.answer)
    latencies = [r.latency_ms for r in results if r.answer]
    errors = sum(r.error is not None for r in results)
    p95 = ages[int(len(ages) * 0.95)]
    return (
        f"{len(ages)}/{sent} answered, {errors} errors, age mean {statistics.mean(ages):.0f} p95 {p95:.0f} max {ages[-1]:.0f} ms, "
        f"latency at the client mean {statistics.mean(latencies):.0f} max {max(latencies):.0f} ms"
    )


def jain(shares: list[int]) -> float:
    """Jain's index: 1 when all have the same."""
    return sum(shares) ** 2 / (len(shares) * sum(s * s for s in shares))


async def rates(url: str, rate: float) -> None:
    """1 to 32 streams for 10 s each."""
    for count in (1, 2, 4, 8, 16, 32):
        each = [IMAGE] * round(rate * 10)
        found = await asyncio.gather(*(stream(url, each, rate, i / count / rate) for i in range(count)))
        shares = [sum(r.answer is not None for r in results) for results in found]
        together = [r for results in found for r in results]
        print(f"{count:2} streams: Jain {jain(shares):.4f}, {describe(together, len(each) * count)}", flush=True)


def film(path: Path, most: int) -> list[bytes]:
    """The first frames of a video, as JPEG."""
    capture = cv2.VideoCapture(str(path))
    frames: list[bytes] = []
    while len(frames) < most:
        read, image = capture.read()
        if not read:
            break
        frames.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
    return frames


async def video(url: str, path: Path) -> None:
    """A video at 10 frames/s, 400 frames at most."""
    frames = film(path, 400)
    results = await stream(url, frames, 10)
    people = [len(r.people) for r in results]
    ids = {person.track_id for r in results for person in r.people}
    print(f"{path.name}: {describe(results, len(frames))}; {statistics.mean(people):.1f} people a frame, {len(ids)} track ids")
    timings = [r.answer.timings_ms.model_dump() for r in results if r.answer]
    print("mean ms:", {stage: round(statistics.mean(t[stage] for t in timings), 1) for stage in timings[0]})


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[ClientConnection]:
    """A started stream that the caller treats as it likes."""
    address = url.replace("http", "ws") + "/v1/stream"
    async with connect(address, compression=None, max_queue=None, ping_timeout=None, close_timeout=1) as connection:
        await connection.send(START)
        await connection.recv()
        yield connection


async def flood(url: str) -> None:
    """200 frames/s for 10 s, acknowledged as they are answered."""
    async with opened(url) as connection:

        async def acknowledge() -> None:
            async for text in connection:
                await connection.send(json.dumps({"type": "ack", "seq": json.loads(text)["seq"]}))

        reading = asyncio.create_task(acknowledge())
        async for frame in paced([IMAGE] * 2000, 200):
            await connection.send(frame)
        reading.cancel()


async def unread(url: str) -> None:
    """Sends 20 frames/s and reads nothing: the transport's reading is paused."""
    async with opened(url) as connection:
        connection.transport.pause_reading()
        async for frame in paced([IMAGE] * 200, 20):
            await connection.send(frame)


async def rubbish(url: str) -> None:
    """Text, halves of images and bytes without meaning, on one connection after the other."""
    for i in range(60):
        with contextlib.suppress(Exception):
            async with opened(url) as connection:
                for data in (b"\xff\xd8" + bytes(100_000), IMAGE[: len(IMAGE) // 2], b"x", "text" if i % 2 else bytes(2_100_000)):
                    await connection.send(data)
                async for _ in connection:
                    pass


async def vanishing(url: str) -> None:
    """Opens a stream, sends a frame, and is gone, 100 times."""
    for _ in range(100):
        async with opened(url) as connection:
            await connection.send(IMAGE)
            connection.transport.abort()
        await asyncio.sleep(0.05)


async def slow_link(url: str) -> list[StreamResult]:
    """A good client at 15 frames/s behind a proxy that lets 200 kB/s through, each way."""
    host, port = url.removeprefix("http://").split(":")

    async def throttle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(len(data) / LINK_BYTES_S)
        writer.close()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port), limit=8192)
        await asyncio.gather(throttle(reader, far_writer), throttle(far_reader, writer))

    proxy = await asyncio.start_server(serve_one, "127.0.0.1", 0, limit=8192)
    async with proxy:
        proxied = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        return await stream(proxied, [IMAGE] * 150, 15)


async def hostile(url: str, process: psutil.Process) -> None:
    """A good stream at 5 frames/s beside each bad client in turn."""
    good = [IMAGE] * 50
    print(f"alone: {describe(await stream(url, good, 5), 50)}", flush=True)
    cases: list[Callable[[str], Coroutine[None, None, object]]] = [flood, unread, rubbish, vanishing, slow_link]
    for _ in range(2):  # what a first time allocates is no leak: the second round is measured
        for case in cases:
            before = process.memory_info().rss
            results, other = await asyncio.gather(stream(url, good, 5), case(url))
            grown = (process.memory_info().rss - before) / 1e6
            print(
                f"{case.__name__}: memory {grown:+.1f} MB, {len(process.net_connections())} sockets; good: {describe(results, 50)}",
                flush=True,
            )
            if isinstance(other, list):
                print(f"  itself: {describe(other, 150)}", flush=True)
    async with AsyncPoseClient(url):
        await asyncio.sleep(3)
    print(f"at the end: {process.memory_info().rss / 1e6:.0f} MB, {len(process.net_connections())} sockets")


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rates", "hostile", "video"])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--rate", type=float, default=5.0, help="frames/s of each of the streams of `rates`")
    options = parser.parse_args()
    with serve(stream_idle_s="10") as server:
        if options.what == "rates":
            asyncio.run(rates(server.url, options.rate))
        elif options.what == "hostile":
            asyncio.run(hostile(server.url, psutil.Process(server.process.pid)))
        elif options.file is None or not options.file.exists():
            parser.error("video needs a FILE that exists")
        else:
            asyncio.run(video(server.url, options.file))


if __name__ == "__main__":
    main()
