"""`posewire watch` before a camera of HTTP (Motion JPEG) and a file."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mjpeg import MjpegCamera, running_camera
from tests.registry.downloads import silent_store
from tests.videos import times_of, walk, write_video


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    with running_camera(frames=15) as server:
        yield server


def watch(*arguments: str | Path, **settings: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")} | {"POSEWIRE_MIN_DETECTION_SCORE": "0.5"}
    environment |= {f"POSEWIRE_{k.upper()}": v for k, v in settings.items()}
    command = [sys.executable, "-m", "posewire", "watch", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads yet
    )


def read(process: subprocess.Popen[str], lines: int) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(lines)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_camera_that_goes_away_is_called_again_until_the_signal(camera: MjpegCamera, tmp_path: Path, number: signal.Signals) -> None:
    process = watch(camera.url, "--out", tmp_path)
    lines = read(process, 3)
    while camera.connections < 2:
        lines += read(process, 1)
    lines += read(process, 1)
    process.send_signal(number)
    rest, err = process.communicate(timeout=60)
    lines += map(json.loads, rest.splitlines())
    assert process.returncode == 0, err
    assert "again in 1 s" in err
    assert "secret" not in err
    assert "Traceback" not in err
    assert [line["pts_s"] for line in lines] == sorted(line["pts_s"] for line in lines)
    assert {person["track_id"] for line in lines[:3] for person in line["people"]} == {1}
    video, saved = sorted(tmp_path.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert (video.suffix, saved.suffix) == (".mp4", ".jsonl")
    assert len(times_of(video)) == len(saved.read_text().splitlines())
    assert abs(len(times_of(video)) - len(lines)) <= 1  # a signal between the printing and the saving


def test_a_file_plays_at_its_own_pace_and_ends(tmp_path: Path) -> None:
    process = watch(write_video(tmp_path / "walk.mp4", walk(10)))
    out, err = process.communicate(timeout=60)
    lines = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, err
    assert lines[-1]["frame"] == 9
    assert len(lines) + sum(line["dropped"] for line in lines) == 10


@pytest.mark.parametrize("source", ["http://user:secret@127.0.0.1:9/video", "rtsp://user:secret@127.0.0.1:9/x", "missing.mp4"])
def test_a_camera_that_never_answered_is_an_error_before_models_are_loaded(source: str, tmp_path: Path) -> None:
    store, _ = silent_store(tmp_path / "store")  # loading its models would take for ever
    process = watch(source, model_store=str(store))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert "cannot be opened" in err
    assert "secret" not in err
    assert "Traceback" not in err


def test_a_reader_who_has_enough_ends_it(camera: MjpegCamera) -> None:
    process = watch(camera.url)
    read(process, 1)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_rules_print_events_and_sinks_get_them(tmp_path: Path) -> None:
    rules, sinks, got = tmp_path / "rules.json", tmp_path / "sinks.json", tmp_path / "got.ndjson"
    rules.write_text('[{"kind": "zone", "name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]')
    sinks.write_text(json.dumps([{"kind": "file", "path": str(got)}]))
    process = watch(write_video(tmp_path / "walk.mp4", walk(10)), "--rules", rules, "--sinks", sinks)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    printed = [line for line in map(json.loads, out.splitlines()) if line["type"] == "event"]
    assert [(event["event"], event["rule"]) for event in printed] == [("entered", "all"), ("left", "all")]
    assert [json.loads(line)["message"] for line in got.read_text().splitlines()] == printed


@pytest.mark.parametrize(("option", "text"), [("--rules", '[{"kind": "teleport"}]'), ("--sinks", "[")])
def test_a_bad_file_of_rules_or_sinks_is_named(tmp_path: Path, option: str, text: str) -> None:
    file = tmp_path / "given.json"
    file.write_text(text)
    process = watch("missing.mp4", option, file)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert f"posewire: {file}: {option.removeprefix('--')}: " in err
