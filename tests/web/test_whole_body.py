"""A model of 133 keypoints on the demo page: an image, then the camera, on a desktop and on a phone."""

from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, expect

from posewire.config import load_settings
from posewire.engine.engine import load_engine
from posewire.telemetry.metrics import Metrics
from tests.sample_images import ASTRONAUT
from tests.server.streaming import listening
from tests.server.test_whole_body import WHOLE_BODY, XY, store
from tests.web.conftest import OpenPage

# How many pixels of the overlay are painted in a square about a point, in fractions of the overlay; the side is in CSS pixels.
AROUND = """([x, y, side]) => {
  const {width, height} = document.getElementById('overlay');
  const half = Math.round(side / 2 * devicePixelRatio);
  const from = [Math.round(x * width) - half, Math.round(y * height) - half];
  const {data} = document.getElementById('overlay').getContext('2d').getImageData(...from, 2 * half, 2 * half);
  let count = 0;
  for (let i = 3; i < data.length; i += 4) if (data[i] > 128) count++;
  return count;
}"""

# How many pixels of the whole overlay are painted.
PAINTED = """() => {
  const {width, height} = document.getElementById('overlay');
  const {data} = document.getElementById('overlay').getContext('2d').getImageData(0, 0, width, height);
  return data.filter((value, i) => i % 4 === 3 && value > 128).length;
}"""


async def painted(page: Page, place: list[float], side: int) -> int:
    count: int = await page.evaluate(AROUND, [*place, side])
    return count


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (360, 640)])
async def test_the_body_is_drawn_larger_than_its_hands_and_its_face(
    tmp_path: Path, open_page: OpenPage, complaints: list[str], width: int, height: int
) -> None:
    settings = load_settings({}, device="cpu", model_store=store(tmp_path), pose="body", workers=0, max_batch=1)
    async with listening(load_engine(settings, Metrics())) as server:
        page = await open_page(server.url, complaints, width=width, height=height)
        await page.set_input_files("#image-file", ASTRONAUT)
        await expect(page.get_by_role("status")).to_have_text("Found 1 person")
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            answer = await client.post("/v1/pose", content=ASTRONAUT.read_bytes(), headers={"Content-Type": "image/jpeg"})
        image = answer.json()["images"][0]
        [person] = image["people"]
        assert [point["name"] for point in person["keypoints"]] == list(WHOLE_BODY.names)
        at = {point["name"]: [point["x"] / image["width"], point["y"] / image["height"]] for point in person["keypoints"]}
        shoulder, finger = await painted(page, at["left_shoulder"], 16), await painted(page, at["left_forefinger4"], 16)
        assert 0 < 2 * finger < shoulder
        between = [(a + b) / 2 for a, b in zip(at["left_shoulder"], at["right_shoulder"], strict=True)]
        assert await painted(page, between, 8) > 0  # a limb
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
        assert not await page.locator("#age").is_visible()  # of a stream alone

        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Use the camera").click()
        await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
        assert (await page.evaluate(PAINTED)) > len(XY)
        await page.close()  # before the server ends, of which it would complain
