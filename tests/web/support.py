"""What the tests of the page share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

from tests.sample_images import astronaut

# A small phone, a phone, both in landscape, a desktop, and a desktop of 1280 x 1024 at a zoom of 400 %.
SIZES = [(320, 480), (360, 640), (568, 320), (844, 390), (1280, 800), (320, 256)]

# Animations that never end are not waited for; a transition that another one replaces is over.
TRANSITIONS_OVER = """() => Promise.allSettled(document.getAnimations()
  .filter(animation => animation.effect.getComputedTiming().endTime !== Infinity)
  .map(animation => animation.finished))"""


async def check_axe(page: Page) -> None:
    """axe-core finds nothing, in both themes. It looks at colours when their transitions are over."""
    schemes: list[Literal["light", "dark"]] = ["light", "dark"]
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        await page.evaluate(TRANSITIONS_OVER)
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def write_video(path: Path, frames: int = 20) -> Path:
    """Write a WebM of the astronaut, 512 x 512, 10 frames a second."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 10, (512, 512))
    for _ in range(frames):
        video.write(np.ascontiguousarray(astronaut()[:, :, ::-1]))
    video.release()
    return path


@asynccontextmanager
async def delayed(port: int, seconds: float) -> AsyncIterator[str]:
    """The address of a proxy before a port of this machine: everything that the server sends arrives late."""
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                loop.call_later(delay, writer.write, data)
        await asyncio.sleep(delay)  # the last data are still on their way
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, upstream_writer, 0), pump(upstream_reader, writer, seconds))
        finally:
            writer.close()
            upstream_writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(connect(reader, writer)))

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    finally:
        proxy.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
