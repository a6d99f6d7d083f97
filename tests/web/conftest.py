"""A real Chromium whose camera is a film of the astronaut."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.sample_images import astronaut

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

OpenPage = Callable[..., Awaitable[Page]]


def film(path: Path) -> Path:
    """A Motion JPEG in which she moves to the right, from 20 to 134 of 640 x 480, on grey."""
    frames = []
    for i in range(20):
        image = np.full((480, 640, 3), 40, np.uint8)
        image[:, 20 + 6 * i : 500 + 6 * i] = cv2.resize(cv2.cvtColor(astronaut(), cv2.COLOR_RGB2BGR), (480, 480))
        frames.append(cv2.imencode(".jpg", image)[1].tobytes())
    path.write_bytes(b"".join(frames))
    return path


@pytest.fixture
async def open_page(tmp_path: Path) -> AsyncIterator[OpenPage]:
    """Open an address in a browser of its own, with a camera and the leave to use it, unless told otherwise.

    What the browser complains of, broken policies too, is put into the list that is given.
    """
    expect.set_options(timeout=30_000)
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (apt install chromium)")
    async with AsyncExitStack() as stack:
        playwright = await stack.enter_async_context(async_playwright())

        async def open_it(
            url: str, complaints: list[str], *, camera: bool = True, leave: bool = True, width: int = 1280, height: int = 800
        ) -> Page:
            arguments = ["--host-resolver-rules=MAP posewire.test 127.0.0.1"]
            if camera:
                arguments += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film(tmp_path / 'film.mjpeg')}"]
            if leave:
                arguments.append("--use-fake-ui-for-media-stream")
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, chromium_sandbox=os.geteuid() != 0)
            stack.push_async_callback(browser.close)
            page = await browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(30_000)
            page.on("console", lambda entry: complaints.append(entry.text) if entry.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(url)
            return page

        yield open_it


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the browser complains of; a test that expects some clears it."""
    found: list[str] = []
    yield found
    assert found == []
