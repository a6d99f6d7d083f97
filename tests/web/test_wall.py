"""The wall of cameras in a real browser, with a real service and real cameras."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Locator, Page, Request, expect

from posewire.server.auth import new_key
from tests.mjpeg import MjpegCamera, running_camera
from tests.server_process import Server, serve
from tests.web.conftest import OpenPage
from tests.web.support import SIZES, check_axe

EVERYWHERE = {"kind": "zone", "name": "floor", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
REFLOWS = "document.documentElement.scrollWidth <= innerWidth"
CONNECTIONS = 6  # of a browser to one host, HTTP/1.1

# Resolves when the pixels of a canvas are others than at the beginning.
CHANGES = """canvas => new Promise(done => {
  const look = () => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.reduce((sum, value, i) => (sum + value * (i % 251)) % 1e9, 0);
  const first = look();
  const again = () => (look() === first ? setTimeout(again, 50) : done(true));
  again();
})"""  # noqa: E501

HIDE = "Object.defineProperty(document, 'hidden', {value: true}); document.dispatchEvent(new Event('visibilitychange'))"


@pytest.fixture(scope="module")
def camera() -> Iterator[MjpegCamera]:
    with running_camera(frames=10**6) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("state")
    with serve(state_dir=str(state), camera_sources=f"http://127.0.0.0/8,{state}", workers="1") as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as found:
        yield found
        for name in kept(found):
            remove(found, name)


def add(client: httpx.Client, name: str, source: str, **fields: object) -> None:
    answer = client.post("/v1/cameras", json={"name": name, "source": source, **fields})
    assert answer.status_code == 201, answer.text


def kept(client: httpx.Client) -> dict[str, dict[str, Any]]:
    """The cameras of the service, by name."""
    return {one["name"]: one for one in client.get("/v1/cameras").json()["cameras"]}


def remove(client: httpx.Client, name: str) -> None:
    assert client.delete(f"/v1/cameras/{name}").status_code == 204


def tile(page: Page, name: str) -> Locator:
    return page.locator(f".camera[data-camera='{name}']")


def badge(page: Page, name: str) -> Locator:
    return tile(page, name).locator(".badge")


async def open_wall(open_page: OpenPage, server: Server, complaints: list[str], at: str = "", **options: Any) -> Page:
    return await open_page(f"{server.url}/cameras{at}", complaints, camera=False, **options)


async def check_reflow(page: Page) -> None:
    for width, height in [*SIZES, (1920, 1080)]:
        await page.set_viewport_size({"width": width, "height": height})
        assert await page.evaluate(REFLOWS), (width, height)


async def test_states_images_and_events_are_shown_and_one_camera_is_enlarged(
    client: httpx.Client, server: Server, camera: MjpegCamera, open_page: OpenPage, complaints: list[str]
) -> None:
    add(client, "door", camera.url, rules=[EVERYWHERE])
    add(client, "away", "http://127.0.0.1:9/video")
    add(client, "spare", camera.url, enabled=False)
    page = await open_wall(open_page, server, complaints)
    await expect(badge(page, "door")).to_have_text("Live")
    await expect(badge(page, "spare")).to_have_text("Paused")
    await expect(badge(page, "away")).to_have_text("Waiting")
    await expect(tile(page, "away").locator(".detail")).to_have_text(re.compile("cannot be opened.*again in [124] s"))
    await expect(page.get_by_role("status")).to_have_text("1 of 3 cameras live")
    await expect(page.locator("#summary")).to_have_text("1 live, 1 waiting, 1 paused")
    colours = await page.evaluate(
        "[...document.querySelectorAll('.camera .badge')].map(e => getComputedStyle(e, '::before').backgroundColor)"
    )
    assert len(set(colours)) == 3
    image = tile(page, "door").locator("canvas")
    await expect(image).to_be_visible()
    assert await image.evaluate(CHANGES)
    await expect(tile(page, "door").locator("[data-part=people]")).to_have_text("1")
    await expect(tile(page, "door").locator("[data-part=rate]")).to_have_text(re.compile(r"^\d"))
    await expect(tile(page, "door").locator("[data-part=age]")).to_have_text(re.compile(r"^\d.* s$"))
    first = page.locator("#events li").first
    await expect(first).to_have_text(re.compile(r"\d\d:\d\d:\d\d.*doorPerson \d+ entered floor"))
    await check_reflow(page)
    await check_axe(page)

    await tile(page, "door").get_by_role("link").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="door")).to_be_focused()
    await expect(page.locator("#live")).to_be_visible()
    assert await page.locator("#live").evaluate(CHANGES)
    assert await page.locator("#live").evaluate("canvas => canvas.width") == 320
    await expect(page.locator("#shapes .zone .name")).to_have_text("floor")
    await expect(page.locator("#one-source")).to_have_text(f"http://127.0.0.1:{camera.server_port}/video (with a password)")
    await check_reflow(page)
    await check_axe(page)
    await page.keyboard.press("Escape")
    await expect(tile(page, "door").get_by_role("link")).to_be_focused()


async def test_a_source_that_is_lost_is_shown_and_live_again_when_it_is_back(
    client: httpx.Client, server: Server, open_page: OpenPage, complaints: list[str]
) -> None:
    with running_camera(frames=10**6) as camera:
        port = camera.server_port
        add(client, "door", camera.url)
        page = await open_wall(open_page, server, complaints, "#door")
        state, detail = page.locator("#one-state"), page.locator("#one-detail")
        await expect(state).to_have_text("Live")
        await expect(page.locator("#live")).to_be_visible()
    await expect(state).to_have_text("Waiting")
    await expect(detail).to_have_text(re.compile("again in [124] s"))
    with running_camera(frames=10**6, port=port):
        await expect(state).to_have_text("Live")
        assert await page.locator("#live").evaluate(CHANGES)
        await expect(page.locator("#one-reconnects")).to_have_text(re.compile("^[1-9]"))
        remove(client, "door")
        await expect(page.get_by_role("alert").filter(has_text="No camera is called door")).to_be_visible()


async def test_a_camera_is_added_changed_paused_and_removed(
    client: httpx.Client, server: Server, camera: MjpegCamera, open_page: OpenPage, complaints: list[str]
) -> None:
    page = await open_wall(open_page, server, complaints)
    await expect(page.get_by_text("No cameras yet")).to_be_visible()
    await check_axe(page)
    form = page.get_by_role("dialog")
    await page.get_by_role("button", name="Add a camera").click()
    await form.get_by_label("Name").fill("door")
    await form.get_by_label("Source").fill("rtsp://192.0.2.1/stream")
    await form.get_by_label("Limit of frames/s").fill("5")
    await page.keyboard.press("Enter")
    await expect(form.get_by_role("alert")).to_contain_text("POSEWIRE_CAMERA_SOURCES")  # as the service says it
    await check_axe(page)
    await check_reflow(page)
    complaints.clear()  # the browser's own word for a status of 403
    await form.get_by_label("Source").fill(camera.url)
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(badge(page, "door")).to_have_text("Live")
    assert kept(client)["door"]["fps"] == 5

    await tile(page, "door").click()
    await page.get_by_role("button", name="Change", exact=True).click()
    await expect(form.get_by_label("Source")).to_have_value(re.compile("^http://127"))
    await form.get_by_label("Limit of frames/s").fill("")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#one-fps")).to_have_text("none")
    assert kept(client)["door"]["credentials"] is True
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator("#one-state")).to_have_text("Paused")
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#one-state")).to_have_text("Live")

    await page.get_by_role("button", name="Remove", exact=True).click()
    await expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    await page.keyboard.press("Enter")
    assert "door" in kept(client)
    await page.get_by_role("button", name="Remove", exact=True).click()
    await check_axe(page)
    await page.get_by_role("button", name="Remove it").click()
    await expect(page.get_by_text("No cameras yet")).to_be_visible()
    assert kept(client) == {}


async def test_a_zone_is_drawn_with_the_mouse_and_a_line_with_the_keyboard(
    client: httpx.Client, server: Server, camera: MjpegCamera, open_page: OpenPage, complaints: list[str]
) -> None:
    add(client, "door", camera.url)
    page = await open_wall(open_page, server, complaints, "#door")
    await expect(page.locator("#live")).to_be_visible()
    await page.get_by_role("button", name="Draw a zone").click()
    editor = page.get_by_role("form")
    box = await page.locator("#shapes").bounding_box()
    assert box
    corners = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.6), (0.1, 0.6)]

    def at(place: tuple[float, float]) -> tuple[float, float]:
        return box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"]

    for corner in corners[:2]:
        await page.mouse.click(*at(corner))
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#editor-problem")).to_have_text("A zone needs three corners.")
    for corner in corners[2:]:
        await page.mouse.click(*at(corner))
    await page.mouse.move(*at(corners[3]))  # the last corner is dragged to its place
    await page.mouse.down()
    await page.mouse.move(*at((0.1, 0.95)), steps=4)
    await page.mouse.up()
    await check_axe(page)
    await editor.get_by_label("Name").fill("mat")
    await editor.get_by_label("Report a stay of").fill("2.5")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#rules")).to_contain_text("mat zone")
    [zone] = kept(client)["door"]["rules"]
    assert (zone["kind"], zone["name"], zone["dwell_s"], zone["point"]) == ("zone", "mat", 2.5, "feet")
    for found, drawn in zip(zone["polygon"], [*corners[:3], (0.1, 0.95)], strict=True):
        assert found == pytest.approx(drawn, abs=0.01)

    await page.get_by_role("button", name="Draw a line").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#shapes")).to_be_focused()
    await page.keyboard.press("Enter")  # the middle
    for _ in range(4):
        await page.keyboard.press("Shift+ArrowUp")
    await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("Enter")
    await expect(page.locator("#editor-said")).to_have_text("Corner 2: 49 % from the left, 30 % from the top.")
    await page.get_by_role("button", name=re.compile("^Corner 1")).focus()
    await page.keyboard.press("ArrowDown")
    await expect(page.locator("#shapes .own .side")).to_have_text(["left", "right"])
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#rules")).to_contain_text("line 1 line")
    line = kept(client)["door"]["rules"][1]
    assert line["start"] == pytest.approx([0.5, 0.51])
    assert line["end"] == pytest.approx([0.49, 0.3])

    await page.get_by_role("button", name="Change mat").click()
    await editor.get_by_label("Name").fill("line 1")  # of two rules: the service refuses it
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#editor-problem")).to_contain_text("two rules have the name")
    complaints.clear()  # the browser's own word for a status of 422
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="Remove mat").click()
    await expect(page.locator("#rules")).not_to_contain_text("mat")
    assert [rule["name"] for rule in kept(client)["door"]["rules"]] == ["line 1"]
    await page.get_by_role("button", name="Undo").click()
    await expect(page.locator("#rules")).to_contain_text("mat zone")
    assert next(rule for rule in kept(client)["door"]["rules"] if rule["name"] == "mat") == zone


async def test_sixteen_cameras_leave_the_page_its_connections(
    client: httpx.Client, server: Server, camera: MjpegCamera, open_page: OpenPage, complaints: list[str]
) -> None:
    names = [f"camera-{i}" for i in range(16)]
    for name in names:
        add(client, name, camera.url, fps=1)
    page = await open_wall(open_page, server, complaints, width=1280, height=2400)
    open_now: set[Request] = set()
    most = 0

    def begin(request: Request) -> None:
        nonlocal most
        if "/v1/" in request.url:  # the files of the page come first, all at once
            open_now.add(request)
        most = max(most, len(open_now))

    def end(request: Request) -> None:
        open_now.discard(request)

    page.on("request", begin)
    page.on("requestfinished", end)
    page.on("requestfailed", end)
    await page.reload()
    for name in names:
        await expect(tile(page, name).locator("canvas")).to_be_visible(timeout=240_000)
    await tile(page, names[3]).click()
    await expect(page.locator("#live")).to_be_visible()
    assert await page.locator("#live").evaluate(CHANGES)
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator("#one-state")).to_have_text("Paused")
    assert kept(client)[names[3]]["enabled"] is False
    assert most < CONNECTIONS
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#one-state")).to_have_text("Live", timeout=240_000)
    await page.evaluate(HIDE)  # a hidden tab leaves the connections to others
    async with asyncio.timeout(30):
        while open_now:
            await page.evaluate("new Promise(done => setTimeout(done, 50))")


async def test_where_a_key_is_needed_images_and_events_come_with_it_and_no_address_has_it(
    tmp_path: Path, camera: MjpegCamera, open_page: OpenPage, complaints: list[str]
) -> None:
    key, line = new_key("visitor")
    (tmp_path / "keys").write_text(line)
    places = {"state_dir": str(tmp_path / "state"), "api_keys_file": str(tmp_path / "keys"), "camera_sources": "http://127.0.0.0/8"}
    with serve(workers="1", **places) as server:
        with httpx.Client(base_url=server.url, timeout=60, headers={"Authorization": f"Bearer {key}"}) as client:
            add(client, "door", camera.url, rules=[EVERYWHERE])
        page = await open_wall(open_page, server, complaints)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        field = page.get_by_label("API key")
        await expect(field).to_be_focused()
        await field.fill("pw_wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-text")).to_have_text("The API key is not valid, or no longer.")
        await check_axe(page)
        await field.fill(key)
        await page.get_by_role("button", name="Go on").click()
        await expect(badge(page, "door")).to_have_text("Live")
        assert all("status of 401" in text for text in complaints), complaints  # the browser's own words
        complaints.clear()
        await expect(tile(page, "door").locator("canvas")).to_be_visible()
        await expect(page.locator("#events li").first).to_contain_text("entered floor")
        await tile(page, "door").click()
        assert await page.locator("#live").evaluate(CHANGES)
        assert asked
        assert not [url for url in asked if key in url]
        await page.close()


async def test_a_service_that_is_gone_is_told_and_the_wall_goes_on_when_it_is_back(
    tmp_path: Path, camera: MjpegCamera, open_page: OpenPage, complaints: list[str]
) -> None:
    start = partial(serve, state_dir=str(tmp_path), camera_sources="http://127.0.0.0/8", workers="1")
    with ExitStack() as stack:
        server = stack.enter_context(start("0"))
        with httpx.Client(base_url=server.url, timeout=60) as client:
            add(client, "door", camera.url, rules=[EVERYWHERE])
        page = await open_wall(open_page, server, complaints)
        await expect(page.locator("#events li").first).to_contain_text("entered floor")
        seen = await page.locator("#events li").count()
        stack.close()
        await expect(page.get_by_role("status")).to_have_text("Reconnecting …")
        await expect(page.locator("#notice-count")).to_contain_text("Next try in")
        await expect(badge(page, "door")).to_have_text("Not known")
        stack.enter_context(start(str(urlsplit(server.url).port)))
        await expect(badge(page, "door")).to_have_text("Live")
        await expect(page.locator("#notice")).to_be_hidden()
        await expect(page.locator("#events li").nth(seen)).to_be_visible()  # the new process's events come beside the old ones
        complaints.clear()  # the browser's own words for connections that failed
        await page.close()
