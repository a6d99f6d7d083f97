"""The demo page on screens of all sizes: real rectangles in a real browser."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.sample_images import ASTRONAUT
from tests.server.streaming import Listen
from tests.web.conftest import OpenPage
from tests.web.support import SIZES, check_axe

# For each element that is shown: the share of it that is inside the window and not covered by others, 0..1, on a grid of points.
# The grid leaves the rounded corners out.
VISIBLE = """selector => [...document.querySelectorAll(selector)].filter(e => e.checkVisibility()).map(e => {
  const {left, top, width, height} = e.getBoundingClientRect();
  let seen = 0;
  for (let i = 0; i < 100; i++) {
    const x = left + 6 + (width - 12) * (i % 10) / 9, y = top + 6 + (height - 12) * Math.floor(i / 10) / 9;
    if (e.contains(document.elementFromPoint(x, y))) seen++;
  }
  const inside = left >= 0 && top >= 0 && left + width <= innerWidth && top + height <= innerHeight;
  return [e.id || e.textContent.trim(), inside ? seen / 100 : 0];
})"""

# Ids of what overlaps the view, by rectangle.
OVERLAPS = """() => {
  const view = document.getElementById('view').getBoundingClientRect();
  return ['notice', 'key', 'dock', 'panel', 'status'].filter(id => {
    const element = document.getElementById(id);
    const {left, right, top, bottom} = element.getBoundingClientRect();
    return element.checkVisibility() && left < view.right && right > view.left && top < view.bottom && bottom > view.top;
  });
}"""

REFLOWS = "document.documentElement.scrollWidth <= innerWidth"


async def resize(page: Page, width: int, height: int) -> None:
    await page.set_viewport_size({"width": width, "height": height})
    await page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


async def check_video(page: Page) -> None:
    """The video and the controls are whole on every screen, side by side or one below the other."""
    for size in SIZES:
        await resize(page, *size)
        assert await page.evaluate(OVERLAPS) == [], size
        assert await page.evaluate(REFLOWS), size
        shares = dict(await page.evaluate(VISIBLE, "#overlay, .dock button"))
        assert set(shares) >= {"overlay", "stop"}
        assert set(shares.values()) == {1}, (size, shares)
        width, height = await page.evaluate(
            "(({width, height}) => [width, height])(document.getElementById('view').getBoundingClientRect())"
        )
        assert width * height >= 0.2 * size[0] * (size[1] - 48), (size, width, height)


async def test_the_start_buttons_are_whole_on_every_screen(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    page = await open_page((await listen()).url, complaints)
    for case in ("", "an error"):
        if case:
            await page.set_input_files("#image-file", Path(__file__))
            await expect(page.get_by_role("alert")).to_contain_text("Not a video or an image")
        for size in SIZES:
            await resize(page, *size)
            shares = dict(await page.evaluate(VISIBLE, ".choices button"))
            assert shares == {"use-camera": 1, "use-video": 1, "use-image": 1}, (case, size)
            assert await page.evaluate(REFLOWS), (case, size)


async def test_an_image_and_its_controls_are_whole_on_every_screen(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    page = await open_page((await listen()).url, complaints)
    await check_axe(page)
    await page.set_input_files("#image-file", ASTRONAUT)
    await expect(page.get_by_role("status")).to_have_text("Found 1 person")
    await check_video(page)
    await check_axe(page)


async def test_a_live_video_and_its_controls_are_whole_on_every_screen(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    page = await open_page((await listen()).url, complaints)
    await page.get_by_role("button", name="Use the camera").click()
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    await check_video(page)
    await page.get_by_text("What the figures mean").click()
    await resize(page, 320, 480)
    assert await page.evaluate(REFLOWS)
    await check_axe(page)


async def test_a_notice_leaves_the_video_free(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    page = await open_page((await listen(stream_deadline_ms=1)).url, complaints)
    await page.get_by_role("button", name="Use the camera").click()
    await expect(page.get_by_role("status")).to_have_text("Server refuses frames")
    await expect(page.get_by_role("alert")).to_contain_text("too old")
    for size in SIZES:
        await resize(page, *size)
        assert await page.evaluate(OVERLAPS) == [], size
        assert await page.evaluate(REFLOWS), size
    await check_axe(page)


async def test_the_theme_follows_the_system_until_it_is_chosen(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    page = await open_page((await listen()).url, complaints)

    async def ground() -> int:
        """The brightness of the page's ground, 0..255."""
        color = await page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        return int(sum(color[:3]) / 3)

    await page.emulate_media(color_scheme="light")
    assert await ground() > 200
    await page.emulate_media(color_scheme="dark")
    assert await ground() < 50
    await page.get_by_role("button", name="Use the light theme").click()
    assert await ground() > 200
    await page.reload()
    assert await ground() > 200
    await page.get_by_role("button", name="Use the dark theme").click()
    assert await ground() < 50
    await page.emulate_media(color_scheme="light")
    assert await ground() > 200, "the choice was the system's own, so the page follows the system again"


@pytest.mark.parametrize("obstacle", ["none", "insecure"])
async def test_what_the_camera_needs_is_said_before_it_is_asked_for(
    listen: Listen, open_page: OpenPage, complaints: list[str], obstacle: str
) -> None:
    server = await listen()
    if obstacle == "none":
        page = await open_page(server.url, complaints, camera=False)
        await expect(page.locator("#camera-hint")).to_contain_text("No camera found")
    else:
        page = await open_page(f"http://posewire.test:{server.port}", complaints)
        await expect(page.locator("#camera-hint")).to_contain_text("https:// pages and to localhost")
        complaints[:] = [text for text in complaints if "Cross-Origin-Opener-Policy" not in text]  # it needs a secure address itself
