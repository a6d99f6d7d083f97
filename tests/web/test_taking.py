"""What the demo page saves and copies: files that show what it shows, and commands that do what it does."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.async_api import Page, expect

from posewire.server.auth import new_key
from tests.sample_images import ASTRONAUT
from tests.server.streaming import Listen
from tests.web.conftest import OpenPage
from tests.web.support import write_video


async def copied(page: Page, kind: str) -> str:
    """Copy something with its button, and return what the clipboard has then."""
    await page.evaluate("navigator.clipboard.writeText('')")
    await page.get_by_role("button", name=f"Copy {kind}").click()
    await expect(page.locator("#taken")).to_contain_text("copied")
    return str(await page.evaluate("navigator.clipboard.readText()"))


async def output(folder: Path, *command: str, **environment: str) -> str:
    """Run a command in a folder; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(120):
        printed, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()
    return printed.decode()


async def test_the_commands_for_an_image_do_what_the_page_did(
    listen: Listen, open_page: OpenPage, complaints: list[str], tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    file = tmp_path / """-it's a "$HOME" `pwd` \\ ümlaut.jpg"""
    shutil.copy(ASTRONAUT, file)
    key, line = new_key("visitor")
    (tmp_path / "keys").write_text(line)
    page = await open_page((await listen(api_keys_file=tmp_path / "keys")).url, complaints)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.evaluate("key => sessionStorage.setItem('posewire.key', key)", key)
    await page.reload()
    await page.set_input_files("#image-file", file)
    await expect(page.get_by_role("status")).to_have_text("Found 1 person")
    await page.get_by_label("Confidence").fill("0.5")

    [image] = json.loads(await copied(page, "JSON"))["images"]
    [person] = image["people"]
    person["keypoints"] = [keypoint for keypoint in person["keypoints"] if keypoint["score"] >= 0.5]
    assert person["keypoints"]

    command = await copied(page, "curl")
    assert key not in command
    [answer] = json.loads(await output(tmp_path, "sh", "-c", command, POSEWIRE_API_KEY=key))["images"]
    assert answer["people"] == [person]

    program = await copied(page, "Python")
    assert key not in program
    printed = (await output(tmp_path, sys.executable, "-W", "error", "-c", program, POSEWIRE_API_KEY=key)).splitlines()
    assert printed[0] == f"{person['score']} {tuple(person['box'])}"
    assert [line.split() for line in printed[1:]] == [
        [k["name"], *(f"{k[field]}" for field in ("x", "y", "score"))] for k in person["keypoints"]
    ]


async def test_the_commands_for_a_video_do_what_the_page_did(
    listen: Listen, open_page: OpenPage, complaints: list[str], tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    file = write_video(tmp_path / "astronaut.webm", frames=6)
    page = await open_page((await listen(stream_deadline_ms=60_000)).url, complaints)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.set_input_files("#video-file", file)
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    answer = json.loads(await copied(page, "JSON"))
    assert answer["type"] == "result"
    assert answer["people"][0]["track_id"] is not None
    curl, python = await copied(page, "curl"), await copied(page, "Python")
    await page.get_by_role("button", name="Stop").click()

    lines = [json.loads(text) for text in (await output(tmp_path, "sh", "-c", curl)).splitlines()]
    assert [len(frame["people"]) for frame in lines if frame["type"] == "frame"] == [1] * 6

    printed = (await output(tmp_path, sys.executable, "-W", "error", "-c", python)).splitlines()
    assert [text.split()[0] for text in printed if not text.startswith(" ")] == [str(number) for number in range(6)]

    await page.get_by_role("button", name="Use the camera").click()
    await expect(page.get_by_role("status")).to_have_text("Live: 1 person")
    camera = (await copied(page, "Python")).replace("VideoCapture(0)", f"VideoCapture({str(file)!r})")
    assert "astronaut.webm" in camera, "the program reads the camera with number 0"
    printed = (await output(tmp_path, sys.executable, "-W", "error", "-c", camera)).splitlines()
    assert any("nose" in text for text in printed)


@pytest.mark.parametrize("mirrored", [False, True])
async def test_a_saved_image_shows_the_image_and_its_skeleton(
    listen: Listen, open_page: OpenPage, complaints: list[str], tmp_path: Path, mirrored: bool
) -> None:
    page = await open_page((await listen()).url, complaints)
    await page.set_input_files("#image-file", ASTRONAUT)
    await expect(page.get_by_role("status")).to_have_text("Found 1 person")
    await page.get_by_label("Mirror").set_checked(mirrored)
    original = cv2.imread(str(ASTRONAUT))
    assert original is not None
    if mirrored:
        original = original[:, ::-1]
    for kind, suffix in (("PNG", ".png"), ("JPEG", ".jpg")):
        async with page.expect_download() as started:
            await page.get_by_role("button", name=f"Save {kind}").click()
        download = await started.value
        assert download.suggested_filename == f"astronaut.pose{suffix}"
        path = tmp_path / f"saved{suffix}"
        await download.save_as(path)
        assert path.read_bytes().startswith(b"\x89PNG" if kind == "PNG" else b"\xff\xd8")
        saved = cv2.imread(str(path))
        assert saved is not None
        assert saved.shape == original.shape
        changed = np.abs(saved.astype(int) - original).max(-1) > 60
        assert 0.005 < changed.mean() < 0.15, "the skeleton covers a small part of the image"
        middle = np.nonzero(changed)[1].mean() / 512
        assert (0.5 < middle < 0.7) if mirrored else (0.3 < middle < 0.5)  # she stands left of the middle


async def test_a_text_that_cannot_be_copied_is_shown(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    server = await listen()
    page = await open_page(f"http://posewire.test:{server.port}", complaints)  # not secure: there is no clipboard
    await page.set_input_files("#image-file", ASTRONAUT)
    await expect(page.get_by_role("status")).to_have_text("Found 1 person")
    await page.get_by_role("button", name="Copy curl").click()
    await expect(page.get_by_role("textbox", name="The command")).to_have_value(
        f"curl --data-binary '@astronaut.jpg' -H 'Content-Type: image/jpeg' '{page.url}v1/pose?min_keypoint_score=0.2'\n"
    )
    assert await page.evaluate("getSelection().toString() || document.activeElement.value.slice(0, document.activeElement.selectionEnd)")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("status")).to_have_text("Found 1 person")
    complaints[:] = [text for text in complaints if "Cross-Origin-Opener-Policy" not in text]  # it needs a secure address itself
