"""The demo page and a real server that stops, vanishes, comes back, and is far away."""

import asyncio
import json
import re
import signal
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from playwright.async_api import WebSocket, expect

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

# What the page shows at one moment: the left edge of the astronaut in the image, the extent of the skeletons, both as shares of
# the width, and the answer, copied with the page's button. null: the image is the live video.
LOOK = """async () => {
  await new Promise(done => requestAnimationFrame(done));
  if (document.getElementById('still').hidden) return null;
  const taken = document.getElementById('taken');
  taken.textContent = '';
  document.getElementById('copy-json').click();
  const columns = (id, top, height, counts) => {
    const canvas = document.getElementById(id);
    const {data} = canvas.getContext('2d').getImageData(0, top * canvas.height, canvas.width, height * canvas.height);
    let first = canvas.width, last = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (!counts(data, i)) continue;
      first = Math.min(first, (i / 4) % canvas.width);
      last = Math.max(last, (i / 4) % canvas.width);
    }
    return [first / canvas.width, last / canvas.width];
  };
  const [edge] = columns('still', 0.1, 0.2, (data, i) => [0, 1, 2].some(channel => Math.abs(data[i + channel] - 40) > 30));
  const skeleton = columns('overlay', 0, 1, (data, i) => data[i + 3] > 200);
  while (!taken.textContent) await new Promise(done => requestAnimationFrame(done));
  return [edge, skeleton, await navigator.clipboard.readText()];
}"""


def left_edge(jpeg: bytes) -> float:
    """Where the astronaut begins in a frame of the film, as a share of its width."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    height, width, _ = image.shape
    coloured = (np.abs(image[height // 10 : height * 3 // 10].astype(int) - 40) > 30).any((0, 2))
    return int(np.argmax(coloured)) / int(width)


async def test_a_server_that_stops_answering_is_noticed_and_recovers(open_page: OpenPage, complaints: list[str]) -> None:
    with serve(workers="0", min_detection_score="0.5") as server:
        page = await open_page(server.url, complaints)
        status, alert, count = page.get_by_role("status"), page.get_by_role("alert"), page.locator("#notice-count")
        await page.clock.install()
        await page.reload()
        await page.get_by_role("button", name="Use the camera").click()
        await expect(status).to_have_text("Live: 1 person")

        await page.clock.pause_at(await page.evaluate("Date.now() / 1000") + 0.5)
        server.process.send_signal(signal.SIGSTOP)
        await page.evaluate(TEN_FRAMES)
        await expect(status).to_have_text("Live: 1 person")
        await page.clock.run_for(3000)
        assert await status.inner_text() == "Server does not answer"
        await expect(alert).to_contain_text("The server does not answer")
        await expect(count).to_have_text(re.compile(r"^The last answer came \d+ s ago\.$"))
        assert float(await page.inner_text("#age")) >= 2.7
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
    with serve(str(urlsplit(server.url).port), workers="0", min_detection_score="0.5"):
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
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        frames: list[bytes] = []

        def listen_to(socket: WebSocket) -> None:
            frames.clear()  # numbers start again
            socket.on("framesent", lambda sent: frames.append(sent) if isinstance(sent, bytes) else None)

        page.on("websocket", listen_to)
        await page.get_by_role("button", name="Use the camera").click()
        await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
        await page.get_by_label("Mirror").uncheck()
        await page.get_by_label("Track numbers").uncheck()
        await expect(page.locator("#timing-now")).to_contain_text("Now steady: the image is ")
        edges: dict[int, float] = {}
        async with asyncio.timeout(120):
            while len(set(edges.values())) < 4:
                if (seen := await page.evaluate(LOOK)) is None:
                    continue
                edge, skeleton, text = seen
                answer = json.loads(text)
                assert edge == pytest.approx(left_edge(frames[answer["seq"]]), abs=0.008), "the image is another frame"
                keypoints = [k["x"] / answer["width"] for person in answer["people"] for k in person["keypoints"] if k["score"] >= 0.2]
                if not keypoints:  # she was not found
                    continue
                edges[answer["seq"]] = edge
                assert skeleton == pytest.approx([min(keypoints), max(keypoints)], abs=0.02), "the skeletons are of another frame"

        await page.get_by_role("radio", name="Live video").check()
        await expect(page.locator("#still")).to_be_hidden()
        await expect(page.locator("#timing-now")).to_contain_text("Now live")
        await page.reload()
        await expect(page.locator("[name=timing][value=live]")).to_be_checked()
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
