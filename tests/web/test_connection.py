"""The demo page and a real server that stops, vanishes, comes back, and is far away."""

import asyncio
import re
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from tests.server.streaming import Listen
from tests.server_process import serve
from tests.web.conftest import OpenPage
from tests.web.support import delayed, write_video

# Resolves after ten more frames of the video: by then the page has sent what it may send without an answer.
TEN_FRAMES = """() => new Promise(done => {
  const video = document.getElementById('video');
  let frames = 0;
  const step = () => (++frames === 10 ? done() : video.requestVideoFrameCallback(step));
  video.requestVideoFrameCallback(step);
})"""

# Looks at `count` frames that are shown with their skeletons. Returns the left edge of the astronaut in each, and the
# middle of its skeleton, both as shares of the width.
LOOK = """count => new Promise(done => {
  const found = new Map();
  const pixels = (id, top, height) => {
    const canvas = document.getElementById(id);
    return [canvas.width, canvas.getContext('2d').getImageData(0, top * canvas.height, canvas.width, height * canvas.height).data];
  };
  const look = () => {
    if (!document.getElementById('still').hidden) {
      const [width, image] = pixels('still', 0.1, 0.2);
      let edge = width;
      const grey = i => [0, 1, 2].every(channel => Math.abs(image[i + channel] - 40) < 30);
      for (let i = 0; i < image.length; i += 4) if (!grey(i)) edge = Math.min(edge, (i / 4) % width);
      const [columns, drawn] = pixels('overlay', 0, 1);
      let sum = 0, painted = 0;
      for (let i = 3; i < drawn.length; i += 4) if (drawn[i] > 200) { sum += ((i - 3) / 4) % columns; painted++; }
      if (painted) found.set(edge, [edge / width, sum / painted / columns]);
    }
    if (found.size < count) requestAnimationFrame(look);
    else done([...found.values()]);
  };
  look();
})"""


async def test_a_server_that_stops_answering_is_noticed_and_recovers(open_page: OpenPage, complaints: list[str]) -> None:
    with serve(workers="0", min_detection_score="0.5") as server:
        page = await open_page(server.url, complaints)
        status, alert, count = page.get_by_role("status"), page.get_by_role("alert"), page.locator("#notice-count")
        await page.clock.install()
        await page.reload()
        await page.get_by_role("button", name="Use the camera").click()
        await expect(status).to_have_text("Live: 1 person")

        await page.clock.pause_at(await page.evaluate("Date.now()") + 500)
        server.process.send_signal(signal.SIGSTOP)
        await page.evaluate(TEN_FRAMES)
        await expect(status).to_have_text("Live: 1 person")
        await page.clock.run_for(3000)
        assert await status.inner_text() == "Server does not answer"
        await expect(alert).to_contain_text("The server does not answer")
        await expect(count).to_have_text("The last answer came 3 s ago.")
        await expect(page.locator("#age")).to_have_text("3.0")
        await page.clock.resume()
        await expect(status).to_have_text("Reconnecting …")
        await page.get_by_role("button", name="Try now").click()
        await expect(status).to_have_text("Connecting …")
        server.process.send_signal(signal.SIGCONT)
        await expect(status).to_have_text("Live: 1 person")
        await expect(alert).to_be_hidden()

        await page.get_by_role("button", name="Stop").click()
        server.process.send_signal(signal.SIGSTOP)
        await page.get_by_role("button", name="Use the camera").click()
        await expect(status).to_have_text("Server does not answer")
        await expect(count).to_contain_text("No answer for")
        server.process.send_signal(signal.SIGCONT)
        await expect(status).to_have_text("Live: 1 person")
    await expect(status).to_have_text("Reconnecting …")
    await expect(alert).to_contain_text("The connection was lost")
    await expect(count).to_contain_text("Next try in")
    with serve(urlsplit(server.url).port or 0, workers="0", min_detection_score="0.5"):
        await expect(status).to_have_text("Live: 1 person")
        await expect(alert).to_be_hidden()
        complaints.clear()  # the browser's own words for connections that failed
        await page.close()


async def test_a_server_far_away_makes_the_image_late_and_the_skeletons_fit_it(
    listen: Listen, open_page: OpenPage, complaints: list[str]
) -> None:
    server = await listen()
    async with delayed(server.port, 0.4) as url:
        page = await open_page(url, complaints)
        await page.get_by_role("button", name="Use the camera").click()
        await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
        await page.get_by_label("Mirror").uncheck()
        await page.get_by_label("Smooth").uncheck()
        await page.get_by_label("Track numbers").uncheck()
        await page.get_by_label("Confidence").fill("0.5")  # keypoints that come and go would move the middle
        await expect(page.locator("#timing-now")).to_contain_text("Now steady: the image is ")
        async with asyncio.timeout(120):
            seen = await page.evaluate(LOOK, 6)
        distances = [middle - edge for edge, middle in seen]
        assert max(edge for edge, _ in seen) - min(edge for edge, _ in seen) > 0.05, "the frames differ"
        # On a live video the skeletons would be 0.4 s behind. The film jumps back at its end, so they would be up to 0.18 apart.
        assert max(distances) - min(distances) < 0.06, seen

        await page.get_by_role("radio", name="Live video").check()
        await expect(page.locator("#still")).to_be_hidden()
        await expect(page.locator("#timing-now")).to_contain_text("Now live")
        await page.reload()
        assert await page.get_by_role("radio", name="Live video").is_checked()
        await page.close()


async def test_the_figures_agree_with_each_other_and_with_the_server(
    listen: Listen, open_page: OpenPage, complaints: list[str], tmp_path: Path
) -> None:
    server = await listen()
    page = await open_page(server.url, complaints)
    await page.set_input_files("#video-file", write_video(tmp_path / "astronaut.webm"))
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    await expect(page.locator("#total-answered")).to_have_text(re.compile(r"^([4-9]|\d\d+)$"), timeout=60_000)
    rate, source, drops = await page.evaluate("['rate', 'source', 'drops'].map(id => parseFloat(document.getElementById(id).textContent))")
    assert drops == pytest.approx(100 * (1 - rate / source), abs=1 + 100 / source)  # both rates are rounded
    await page.get_by_role("button", name="Pause").click()

    def totals() -> list[int]:
        names = ("received", "answered", "dropped")
        return [int(server.metric(f"posewire_frames_{name}_total")) for name in names]

    async with asyncio.timeout(30):
        while totals()[0] > sum(totals()[1:]):
            await page.evaluate("new Promise(done => requestAnimationFrame(done))")
    received, answered, dropped = totals()
    await expect(page.locator("#total-answered")).to_have_text(str(answered))
    newer = int(server.metric("posewire_frames_dropped_total", cause="newer"))
    await expect(page.locator("#total-newer")).to_have_text(str(newer))
    await expect(page.locator("#total-refused")).to_have_text(str(dropped - newer))
    assert received == answered + dropped
    await expect(page.locator("#people")).to_have_text("1")
    await page.get_by_text("What the figures mean").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("The page sends a frame only when the server is free for it")).to_be_visible()
