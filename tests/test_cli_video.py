"""`posewire predict` on videos, as a person or a script runs it."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.videos import times_of, walk, write_sound, write_video


def start(*arguments: str | Path, limit_bytes: int | None = None) -> subprocess.Popen[str]:
    """A process that can be interrupted, with no more than `limit_bytes` for each file."""

    def limit() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [sys.executable, "-m", "posewire", "predict", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")} | {"POSEWIRE_MIN_DETECTION_SCORE": "0.5"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=limit)  # noqa: PLW1509 - no threads yet


def run(*arguments: str | Path, limit_bytes: int | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = start(*arguments, limit_bytes=limit_bytes)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_video_becomes_a_drawn_video_and_a_line_a_frame(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.8, 0.9, 1.0, 2.5]  # not evenly spaced
    source, out = write_video(tmp_path / "walk.mp4", walk(8), times=times), tmp_path / "out"
    code, text, _ = run(source, "--out", out)
    assert code == 0
    assert "8 frames in" in text
    assert "1 identity" in text
    assert names(out) == {"walk.pose.mp4", "walk.pose.jsonl"}
    lines = lines_of(out / "walk.pose.jsonl")
    assert [line["frame"] for line in lines] == list(range(8))
    assert [line["pts_s"] for line in lines] == pytest.approx(times, abs=1e-3)
    assert [[person["track_id"] for person in line["people"]] for line in lines] == [[1]] * 8
    assert times_of(out / "walk.pose.mp4") == pytest.approx(times, abs=1e-3)
    with av.open(str(out / "walk.pose.mp4")) as video:
        assert video.streams.video[0].codec_context.name == "h264"
        drawn = next(video.decode(video=0)).to_ndarray(format="rgb24").astype(float)
    assert drawn.shape == (320, 320, 3)
    assert np.abs(drawn - walk(1)[0]).mean() < 20  # it is the image
    assert (np.abs(drawn - walk(1)[0]).max(-1) > 100).mean() > 0.005  # with lines on it


def test_a_turned_video_is_drawn_upright(tmp_path: Path) -> None:
    source = write_video(tmp_path / "phone.mp4", [np.ascontiguousarray(f[:, :240].transpose(1, 0, 2)[::-1]) for f in walk(3)], rotation=-90)
    code, _, _ = run(source, "--out", tmp_path / "out")
    assert code == 0
    line = lines_of(tmp_path / "out" / "phone.pose.jsonl")[0]
    assert (line["width"], line["height"]) == (240, 320)
    with av.open(str(tmp_path / "out" / "phone.pose.mp4")) as video:
        frame = next(video.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (240, 320, 0)


def test_json_lines_go_to_standard_output(tmp_path: Path) -> None:
    code, text, _ = run(write_video(tmp_path / "walk.mkv", walk(3)), "--json", "--no-track")
    lines = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert {person["track_id"] for line in lines for person in line["people"]} == {None}


def test_ctrl_c_leaves_whole_files_of_a_name_of_their_own(tmp_path: Path) -> None:
    source, out = write_video(tmp_path / "walk.mp4", walk(20) * 60), tmp_path / "out"
    process = start(source, "--out", out, "--json")
    assert process.stdout is not None
    for _ in range(5):  # it is in the middle of it
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after" in err
    assert names(out) == {"walk.partial.pose.mp4", "walk.partial.pose.jsonl"}
    frames = len(times_of(out / "walk.partial.pose.mp4"))
    assert 0 < frames < 1200
    assert len(lines_of(out / "walk.partial.pose.jsonl")) == frames


def test_damage_in_the_middle_leaves_what_was_before_it(tmp_path: Path) -> None:
    source, out = write_video(tmp_path / "walk.mp4", walk(12)), tmp_path / "out"
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    code, _, err = run(source, "--out", out)
    assert code == 1
    assert "damaged after" in err
    assert names(out) == {"walk.partial.pose.mp4", "walk.partial.pose.jsonl"}
    assert 0 < len(times_of(out / "walk.partial.pose.mp4")) < 12


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    source, out = write_video(tmp_path / "walk.mp4", walk(12)), tmp_path / "out"
    code, _, err = run(source, "--out", out, limit_bytes=6000)
    assert code == 1
    assert "cannot be written: File too large" in err
    assert "Traceback" not in err
    assert names(out) == set()


def test_what_is_no_video_fails_and_the_others_are_done(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 100)
    write_sound(tmp_path / "b.m4v")
    write_video(tmp_path / "c.mp4", walk(2))
    code, text, err = run(tmp_path, "--out", tmp_path / "out")
    assert code == 1
    assert "a.mp4: the video is damaged" in err
    assert "b.m4v: the video has no image: only audio" in err
    assert "c.mp4: 2 frames" in text
    assert names(tmp_path / "out") == {"c.pose.mp4", "c.pose.jsonl"}


def test_coco_is_for_images(tmp_path: Path) -> None:
    code, _, err = run(write_video(tmp_path / "a.mp4", walk(2)), "--json", "--format", "coco")
    assert code == 1
    assert "--format coco is for images" in err
