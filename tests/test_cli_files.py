"""The command line with odd files: nothing hangs, nothing is overwritten, and each fault is one line."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from posewire.cli.drawn_names import drawn_names
from posewire.cli.predict import coco_ids, find_images
from posewire.errors import PosewireError
from tests.sample_images import ASTRONAUT
from tests.test_cli import posewire


def one_line_of(run: subprocess.CompletedProcess[str]) -> str:
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (1, "", 1), run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


def test_what_is_no_file_is_told_and_the_rest_is_done(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.png"))
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "large.jpg").write_bytes(b"\xff\xd8\xff")
    os.truncate(tmp_path / "large.jpg", 10_000_000_000)  # without any data on the disk
    (tmp_path / "a.jpg").write_bytes(ASTRONAUT.read_bytes())
    run = posewire("predict", tmp_path, "/dev/zero")
    assert run.returncode == 1
    assert "a.jpg: 512x512" in run.stdout
    assert sorted(line.split(": ", 2)[1].rpartition("/")[2] + line[-8:] for line in run.stderr.splitlines()) == [
        "large.jpgre taken",
        "pipe.jpgs needed",
        "pipe.mp4s needed",
        "socket.pngs needed",
        "zeros needed",
    ]


@pytest.mark.parametrize("argument", ["", "n" * 300, "no\nwhere.jpg", "x/*.jpg", "folder.jpg"])
def test_an_argument_that_names_nothing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "a.jpg").write_bytes(ASTRONAUT.read_bytes())  # not asked for by an empty argument
    with pytest.raises(PosewireError, match=r"no such image|cannot be read"):
        find_images([argument])


def test_a_pipe_in_place_of_data_is_one_line(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    evaluate = posewire("evaluate", "--images", tmp_path, "--annotations", pipe)
    assert f"{pipe}: cannot be read: it is a pipe" in one_line_of(evaluate)
    assert f"{pipe}: cannot be read: it is a pipe" in one_line_of(posewire("bench", "--against", pipe))
    compiled = posewire("models", "compile", pipe, "--out", tmp_path / "a.onnx", "--variant", "litehrnet-18")
    assert f"{pipe}: cannot be read: it is a pipe" in one_line_of(compiled)
    assert "no\\nwhere" not in one_line_of(posewire("predict", "no\nwhere.jpg"))


def test_a_name_that_cannot_be_printed_is_escaped(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xe9.jpg"
    Path(os.fsdecode(path)).write_bytes(ASTRONAUT.read_bytes())
    command = [sys.executable, "-W", "error", "-m", "posewire", "predict", os.fsdecode(path), str(tmp_path / "größe.jpg")]
    (tmp_path / "größe.jpg").write_bytes(b"no image")
    environment = {"PATH": "", "PYTHONIOENCODING": "ascii"}
    run = subprocess.run(command, check=False, env=environment, capture_output=True, timeout=120)
    assert run.returncode == 1
    assert rb"\udcff\udce9.jpg: 512x512" in run.stdout
    assert run.stderr.count(b"\n") == 1
    assert rb"gr\xf6\xdfe.jpg" in run.stderr


def test_the_ids_of_coco_rows_differ(tmp_path: Path) -> None:
    numbers = [Path("000000000139.jpg"), Path("x/7.png")]
    assert coco_ids(numbers) == dict(zip(numbers, [139, 7], strict=True))
    paths = [Path(name) for name in ("a/1.jpg", "b/1.jpg", "01.jpg", "me.jpg", "a/me.jpg", "2.jpg", "1" * 30 + ".jpg", "٣.jpg")]
    assert list(coco_ids(paths).values()) == ["a/1.jpg", "b/1.jpg", "01.jpg", "me.jpg", "a/me.jpg", 2, "1" * 30 + ".jpg", "٣.jpg"]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(ASTRONAUT.read_bytes())
    rows = json.loads(posewire("predict", tmp_path / "a", tmp_path / "b", "--json", "--format", "coco").stdout)
    assert {row["image_id"] for row in rows} == {str(tmp_path / "a" / "1.jpg"), str(tmp_path / "b" / "1.jpg")}


def test_a_source_is_never_replaced(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.jpg", "a.pose.jpg"):
        (images / name).write_bytes(ASTRONAUT.read_bytes())
    before = {path: path.stat() for path in images.iterdir()}
    said = one_line_of(posewire("predict", images, "--out", images))
    assert f"{images}/a.pose.jpg would be replaced" in said
    assert "give another folder to --out" in said
    assert {path: path.stat() for path in images.iterdir()} == before


def test_a_source_is_known_by_all_its_names(tmp_path: Path) -> None:
    source, out = tmp_path / "a.jpg", tmp_path / "out"
    source.write_bytes(b"")
    out.mkdir()
    assert drawn_names(out, [source]) == {source: out / "a.pose.jpg"}
    (out / "a.pose.jpg").hardlink_to(source)
    with pytest.raises(PosewireError, match=r"a\.jpg would be replaced"):
        drawn_names(out, [source])
    (out / "a.pose.jpg").unlink()
    (out / "a.pose.jpg").symlink_to(source)
    with pytest.raises(PosewireError, match=r"a\.jpg would be replaced"):
        drawn_names(out, [source])
    (tmp_path / "same").symlink_to(tmp_path)
    (tmp_path / "a.pose.jpg").write_bytes(b"")
    with pytest.raises(PosewireError, match=r"a\.pose\.jpg would be replaced"):
        drawn_names(tmp_path / "same", [source, tmp_path / "a.pose.jpg"])


@pytest.mark.parametrize("other", ["walk.pose.mp4", "walk.pose.jsonl", "walk.partial.pose.mp4", "walk.partial.pose.jsonl"])
def test_no_file_of_a_video_replaces_a_source(tmp_path: Path, other: str) -> None:
    for name in ("walk.mp4", other):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(PosewireError, match=f"{other} would be replaced"):
        drawn_names(tmp_path, [tmp_path / "walk.mp4", tmp_path / other])


def test_no_two_drawings_have_one_name_even_where_case_does_not_count(tmp_path: Path) -> None:
    sources = [Path(name) for name in ("x/A.jpg", "y/a.JPG", "z/a.png", "x/a-2.jpg", "w.mp4", "w.partial.mkv", "W.mov")]
    names = [target.name for target in drawn_names(tmp_path, sources).values()]
    assert names == [
        *("A.pose.jpg", "a-2.pose.jpg", "a.pose.png", "a-2-2.pose.jpg"),
        *("w.pose.mp4", "w.partial-2.pose.mp4", "W-2.pose.mp4"),
    ]
