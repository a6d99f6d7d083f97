"""The demo page in a real browser."""

import os
import re
import time
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from posewire.server.auth import new_key
from tests.sample_images import ASTRONAUT
from tests.server.streaming import Listen
from tests.web.conftest import OpenPage
from tests.web.support import write_video

# Pixels of the overlay that carry colour, and where their middle lies, 0..1 from the left.
PAINTED = """() => {
  const {width, height} = document.getElementById('overlay');
  const {data} = document.getElementById('overlay').getContext('2d').getImageData(0, 0, width, height);
  let count = 0, sum = 0;
  for (let i = 3; i < data.length; i += 4) if (data[i] > 200) { count++; sum += ((i - 3) / 4) % width; }
  return [count, count ? sum / count / width : 0];
}"""


async def painted(page: Page) -> tuple[int, float]:
    count, middle = await page.evaluate(PAINTED)
    return count, middle


async def test_from_the_keyboard_the_camera_shows_skeletons(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    page = await open_page((await listen()).url, complaints)
    await expect(page.get_by_role("status")).to_have_text("Ready")
    camera = page.get_by_role("button", name="Use the camera")
    for _ in range(6):
        await page.keyboard.press("Tab")
        if await camera.evaluate("button => button === document.activeElement"):
            break
    assert await camera.evaluate("button => button.matches(':focus-visible') && getComputedStyle(button).outlineStyle !== 'none'")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    await expect(page.locator("#rate")).to_have_text(re.compile(r"^[1-9]"))
    assert (await painted(page))[0] > 2000
    assert float(await page.inner_text("#latency")) > 0
    assert (await page.inner_text("#drops")).endswith("%")
    await page.keyboard.press("Escape")
    await expect(camera).to_be_focused()
    assert await painted(page) == (0, 0)
    await expect(page.get_by_role("status")).to_have_text("Ready")


async def test_an_image_is_drawn_where_the_person_is_and_mirrored(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    page = await open_page((await listen()).url, complaints, width=390, height=844)
    await page.set_input_files("#image-file", ASTRONAUT)
    await expect(page.get_by_role("status")).to_have_text("Found 1 person")
    count, middle = await painted(page)
    assert count > 500
    assert 0.3 < middle < 0.5  # she stands left of the middle
    await page.get_by_label("Mirror").check()
    assert (await painted(page))[1] == pytest.approx(1 - middle, abs=0.02)
    await page.get_by_label("Confidence").fill("0.9")
    assert (await painted(page))[0] < count / 4
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than a phone"


async def test_a_video_file_is_played_and_paused(listen: Listen, open_page: OpenPage, complaints: list[str], tmp_path: Path) -> None:
    page = await open_page((await listen()).url, complaints)
    await page.set_input_files("#video-file", write_video(tmp_path / "astronaut.webm"))
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("button", name="Play")).to_be_visible()
    assert (await painted(page))[0] > 2000


@pytest.mark.parametrize(
    ("browser", "title"),
    [
        ({"camera": False}, "No camera found"),
        ({"leave": False}, "Camera permission refused"),
    ],
)
async def test_a_camera_that_cannot_be_had_is_told(
    listen: Listen, open_page: OpenPage, complaints: list[str], browser: dict[str, bool], title: str
) -> None:
    page = await open_page((await listen()).url, complaints, **browser)
    await page.get_by_role("button", name="Use the camera").click()
    await expect(page.get_by_role("alert")).to_contain_text(title)
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()
    await expect(page.get_by_role("button", name="Open an image")).to_be_visible()


async def test_an_address_that_is_not_secure_is_told(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    server = await listen()
    page = await open_page(f"http://posewire.test:{server.port}", complaints)
    await page.get_by_role("button", name="Use the camera").click()
    await expect(page.get_by_role("alert")).to_contain_text("Not a secure address")
    complaints[:] = [text for text in complaints if "Cross-Origin-Opener-Policy" not in text]  # it needs a secure address itself


async def test_a_busy_server_is_told_and_tried_again(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    server = await listen(max_streams=1)
    async with server.stream():
        page = await open_page(server.url, complaints)
        await page.get_by_role("button", name="Use the camera").click()
        await expect(page.get_by_role("alert")).to_contain_text("The server is busy")
        await expect(page.locator("#notice-count")).to_contain_text("Next try in")
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_what_is_neither_video_nor_image_is_told(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    page = await open_page((await listen()).url, complaints)
    await page.set_input_files("#image-file", Path(__file__))
    await expect(page.get_by_role("alert")).to_contain_text("Not a video or an image")


async def test_where_a_key_is_needed_it_is_asked_for_and_kept_in_this_tab_alone(
    listen: Listen, open_page: OpenPage, complaints: list[str], tmp_path: Path
) -> None:
    key, line = new_key("visitor")
    (tmp_path / "keys").write_text(line)
    page = await open_page((await listen(api_keys_file=tmp_path / "keys")).url, complaints)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    await page.set_input_files("#image-file", ASTRONAUT)
    field = page.get_by_label("API key")
    await expect(field).to_be_focused()
    await expect(page.get_by_role("alert")).to_have_text("This service is for those who hold a key.")
    await field.fill("pw_wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("The API key is not valid, or no longer.")
    await field.fill(f" {key} ")
    await page.get_by_role("button", name="Go on").click()
    await expect(page.get_by_role("status")).to_have_text("Found 1 person")
    await expect(field).to_be_hidden()
    # What the browser itself says of the two refusals, and nothing more.
    assert [bool(re.search(r"status of 401", text)) for text in complaints] == [True, True]
    complaints.clear()
    await page.reload()
    await page.get_by_role("button", name="Use the camera").click()
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    assert [url for url in asked if url.startswith("ws:")]
    assert not [url for url in asked if key in url]
    assert await page.evaluate("[JSON.stringify(sessionStorage).split('pw_').length, localStorage.length, document.cookie]") == [2, 0, ""]


async def test_a_key_that_is_revoked_is_asked_for_again(listen: Listen, open_page: OpenPage, complaints: list[str], tmp_path: Path) -> None:
    (old, old_line), (new, new_line) = new_key("old"), new_key("new")
    keys = tmp_path / "keys"
    keys.write_text(old_line)
    server = await listen(api_keys_file=keys)
    page = await open_page(server.url, complaints)
    await page.evaluate("key => sessionStorage.setItem('posewire.key', key)", old)
    await page.reload()
    await page.get_by_role("button", name="Use the camera").click()
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    assert complaints == []
    keys.write_text(f"# now\n{new_line}")
    os.utime(keys, (time.time() - 60,) * 2)  # a file that was just written may not be complete
    await server.services.streams.close(10)  # an open stream goes on: its end lets the page find out
    await page.get_by_label("API key").fill(new)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    assert all(re.search("status of 401|HTTP Authentication failed", text) for text in complaints), complaints  # the browser's own
    complaints.clear()
