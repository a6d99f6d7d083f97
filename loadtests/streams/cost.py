"""The cost of a stream's frame to the server, with the detector spared where people are followed and without, and the memory of a stream.

    python -m loadtests.streams.cost               one person who stands still (512 x 512)
    python -m loadtests.streams.cost FILE          the people of a video

Four streams at 5 frames/s, three seconds with tracking and three without, in turn, the order changing; the CPU time is that of the server's
process tree. Then 30 streams are opened and kept open. A minute in all.
"""

import argparse
import asyncio
import socket
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np

from loadtests.processes import Server, posewire
from loadtests.streams.measure import IMAGE, film, stream
from posewire.client import AsyncPoseClient

_STREAMS = 4
_RATE = 5.0  # frames/s of each
_FRAMES = 15  # of each, in one stretch
_ROUNDS = 6
_OPEN = 30


async def stretch(server: Server, frames: list[bytes], track: bool) -> tuple[float, float]:
    """Core milliseconds of the server for each answered frame, and people a frame."""
    before = server.cpu_s()
    each = [stream(server.url, frames, _RATE, i / _STREAMS / _RATE, track=track) for i in range(_STREAMS)]
    answered = [result for results in await asyncio.gather(*each) for result in results if result.answer]
    return (server.cpu_s() - before) * 1000 / len(answered), float(np.mean([len(result.people) for result in answered]))


async def costs(server: Server, frames: list[bytes]) -> None:
    """Both ways in turn; the first of each warms up."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for i in range(_ROUNDS + 1):
        for track in (True, False) if i % 2 else (False, True):
            cost, people = await stretch(server, frames, track)
            if i:
                found[track].append(cost)
    for name, values in {
        "tracked, core ms a frame": found[True],
        "every frame detected, core ms a frame": found[False],
        "tracked over detected": np.array(found[True]) / np.array(found[False]),
    }.items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        print(f"{name}: {middle:.2f} (quartiles {low:.2f} to {high:.2f})")
    print(f"people a frame: {people:.1f}")


async def memory(server: Server, frames: list[bytes]) -> None:
    """The memory that open streams add, each after a frame."""
    before = server.memory_mb()
    async with AsyncPoseClient(server.url) as client, AsyncExitStack() as streams:
        for _ in range(_OPEN):
            opened = await streams.enter_async_context(client.stream())
            opened.offer(frames[0])
            await anext(opened)
        print(f"a stream that is open: {(server.memory_mb() - before) / _OPEN:.2f} MiB")


async def measure(server: Server, frames: list[bytes]) -> None:
    """Everything, printed."""
    print(f"resident when ready: {server.memory_mb():.0f} MiB")
    await costs(server, frames)
    print(f"resident after that: {server.memory_mb():.0f} MiB")
    await memory(server, frames)


def main() -> None:
    """Start a server and measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    options = parser.parse_args()
    frames = film(options.file, _FRAMES) if options.file else [IMAGE] * _FRAMES
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as out, posewire(Path(out), port) as server:
        asyncio.run(measure(server, frames))


if __name__ == "__main__":
    main()
