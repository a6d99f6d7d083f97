"""The examples, as a reader runs them."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.figure import person
from tests.sample_images import ASTRONAUT
from tests.server_process import serve
from tests.videos import walk, write_video

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, encoding="utf-8", timeout=300)


def swings(rest: float, turn: float, count: int) -> Sequence[float]:
    """An angle that swings `count` times from one value to another and back, at 10 frames a second."""
    phase = np.linspace(0, count * 2 * np.pi, 16 * count + 1)
    return [float(rest + (turn - rest) * (1 - np.cos(p)) / 2) for p in phase]


@pytest.mark.parametrize("exercise", ["squats", "arm-raises"])
def test_repetitions_are_counted(tmp_path: Path, exercise: str) -> None:
    if exercise == "squats":
        images = [person(knee_degrees=angle) for angle in swings(175, 80, 2)]
    else:
        images = [person(arm_degrees=angle) for angle in swings(12, 165, 2)]
    video = write_video(tmp_path / "video.mp4", images)
    done = example("count_repetitions.py", video, "--exercise", exercise)
    assert done.returncode == 0, done.stderr
    *repetitions, total = done.stdout.splitlines()
    assert total == f"{exercise}: 2"
    assert [line.partition(": ")[2] for line in repetitions] == ["person 1, 1", "person 1, 2"]
    assert [float(line.partition(" ")[0]) for line in repetitions] == pytest.approx([1.6, 3.2], abs=0.5)
    other = "arm-raises" if exercise == "squats" else "squats"
    assert example("count_repetitions.py", video, "--exercise", other).stdout == f"{other}: 0\n"


def test_what_is_no_video_is_not_counted(tmp_path: Path) -> None:
    done = example("count_repetitions.py", tmp_path / "nowhere.mp4")
    assert done.returncode == 2
    assert "cannot be opened as a video" in done.stderr


def test_a_folder_becomes_a_csv_file(tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    (folder / "day 2").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(ASTRONAUT.read_bytes())
    (folder / "day 2" / "ü.JPG").write_bytes(ASTRONAUT.read_bytes())
    (folder / "bad.jpg").write_text("not an image")
    (folder / "notes.txt").write_text("nor this")
    done = example("folder_to_csv.py", folder)
    assert done.returncode == 1
    assert "bad.jpg: " in done.stderr
    assert "notes.txt" not in done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert {row["file"] for row in rows} == {"a.jpg", "day 2/ü.JPG"}
    assert rows[0]["keypoint"] == "nose"
    assert float(rows[0]["x"]) == pytest.approx(219, abs=10)
    assert [row["x"] for row in rows if row["file"] == "a.jpg"] == [row["x"] for row in rows if row["file"] != "a.jpg"]
    (folder / "empty").mkdir()
    assert example("folder_to_csv.py", folder / "empty").returncode == 2


def test_a_video_is_sent_over_webrtc(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", walk(30))
    with serve(workers="1") as server:
        done = example("whip_client.py", video, "--url", server.url)
        nowhere = example("whip_client.py", tmp_path / "nowhere.mp4", "--url", server.url)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) >= 3
    assert [result["seconds"] for result in results] == sorted({result["seconds"] for result in results})
    assert {len(result["people"]) for result in results} == {1}
    assert results[-1]["people"][0]["keypoints"][0]["name"] == "nose"
    assert nowhere.returncode == 2
    assert "cannot be opened as a video" in nowhere.stderr
