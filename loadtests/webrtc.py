"""The same video through the WebSocket and through WHIP, in turns: the time from a frame's capture to its result."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence

import cv2
import httpx
import numpy as np

from loadtests.report import Result, Row
from loadtests.scenarios import Bench
from posewire.client import AsyncPoseClient
from posewire.types import UInt8Array
from tests.sample_images import astronaut
from tests.webrtc import Film, peer

RATE = 10.0  # frames a second
WIDTH, HEIGHT = 640, 480
ROUNDS = 4  # of each way
_QUALITY = 80  # of the JPEGs, as docs/streaming.md recommends
_MIN_RESULTS = 20  # for a percentile
_WARM_S = 2.0  # results of this time do not count: a connection begins slowly


def film() -> list[UInt8Array]:
    """Return 40 frames of one person who moves to the right, (480, 640, 3) uint8 RGB."""
    person = np.asarray(cv2.resize(astronaut(), (HEIGHT, HEIGHT)), np.uint8)
    frames = [np.full((HEIGHT, WIDTH, 3), 40, np.uint8) for _ in range(40)]
    for i, frame in enumerate(frames):
        frame[:, 4 * i : HEIGHT + 4 * i] = person
    return frames


async def over_websocket(url: str, frames: Sequence[UInt8Array], seconds: float) -> list[float]:
    """Return the milliseconds from the capture of each frame to its result; the encoding of the JPEG counts."""
    captured: list[float] = []

    async def encoded() -> AsyncIterator[bytes]:
        started = time.monotonic()
        for i in range(round(seconds * RATE)):
            await asyncio.sleep(started + i / RATE - time.monotonic())
            captured.append(time.monotonic())
            yield await asyncio.to_thread(_jpeg, frames[i % len(frames)])

    found = []
    async with AsyncPoseClient(url) as client, client.stream() as stream:
        async for result in stream.results(encoded()):
            if result.answer is not None and result.frame >= _WARM_S * RATE:
                found.append(1000 * (time.monotonic() - captured[result.frame]))
    return found


def _jpeg(pixels: UInt8Array) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


async def over_whip(url: str, frames: Sequence[UInt8Array], seconds: float) -> list[float]:
    """Return the milliseconds from the capture of each frame to its result; the encoding of VP8 counts."""
    video = Film(frames, RATE)
    found = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as http, peer(http, video) as client:
        (await client.open()).raise_for_status()
        await client.message("started")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            result = await client.message("result")
            frame = round(result["pts_s"] * RATE)
            if frame >= _WARM_S * RATE:
                found.append(1000 * (time.monotonic() - video.captured[frame]))
        await http.delete(str(client.address))
    return found


async def webrtc(bench: Bench) -> Result:
    """One video at 10 frames/s through both ways, in turns; the models are the same, so the difference is the way."""
    frames, url = film(), bench.server.url
    rounds: dict[str, list[list[float]]] = {"WebSocket, JPEG": [], "WHIP, VP8": []}
    for _ in range(ROUNDS):
        rounds["WebSocket, JPEG"].append(await over_websocket(url, frames, _WARM_S + bench.seconds))
        rounds["WHIP, VP8"].append(await over_whip(url, frames, _WARM_S + bench.seconds))
    result = Result("webrtc", f"A video of one person, {WIDTH} x {HEIGHT}, at {RATE:g} frames/s: from capture to result.", raw=dict(rounds))
    result.tables["Milliseconds from capture to result"] = [_row(way, found, bench.seconds) for way, found in rounds.items()]
    return result


def _row(way: str, rounds: Sequence[Sequence[float]], seconds: float) -> Row:
    together = [each for found in rounds for each in found]
    medians = [statistics.median(found) for found in rounds if found]
    enough = len(together) >= _MIN_RESULTS
    return {
        "way": way,
        "answered": f"{len(together)} of {round(len(rounds) * seconds * RATE)}",
        "median": round(statistics.median(together), 1) if enough else "too few",
        "p95": round(statistics.quantiles(together, n=20)[-1], 1) if enough else "too few",
        "medians of the rounds": f"{min(medians):.1f} to {max(medians):.1f}" if medians else "none",
    }
