"""The `posewire` command as a person or a script runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from posewire import __version__
from posewire.native.library import FILE
from posewire.registry.store import ModelStore
from tests.sample_images import ASTRONAUT, encode, landscape

DETECTOR, POSE = (ModelStore().manifest.default(task) for task in ("detector", "pose"))


def posewire(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "", **{f"POSEWIRE_{k.upper()}": v for k, v in settings.items()}}
    command = [sys.executable, "-W", "error", "-m", "posewire", *map(str, arguments)]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images and a text file; the folder above is the test's own too, for patterns that look there."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.jpg").write_bytes(ASTRONAUT.read_bytes())
    (images / "b.png").write_bytes(encode(landscape(), ".png"))
    (images / "notes.txt").write_text("not an image")
    return images


def test_predict_prints_a_line_an_image(folder: Path) -> None:
    run = posewire("predict", folder)
    first, second = run.stdout.splitlines()
    assert run.returncode == 0
    assert re.search(r"a\.jpg: 512x512, [1-9] (person|people) \(", first)
    assert "b.png: 640x480, 0 people" in second


@pytest.mark.parametrize("pattern", ["*.jpg", "../*/*.[jp]*g"])
def test_predict_expands_patterns_itself(folder: Path, pattern: str) -> None:
    run = posewire("predict", f"{folder}/{pattern}", "--json")
    assert run.returncode == 0
    assert "a.jpg" in [Path(json.loads(line)["file"]).name for line in run.stdout.splitlines()]


def test_json_is_alone_on_standard_output(folder: Path) -> None:
    run = posewire("predict", folder, "--json", "--out", folder / "out")
    with_person, without = map(json.loads, run.stdout.splitlines())
    assert set(with_person) == {"file", "width", "height", "people", "timings_ms"}
    assert len(with_person["people"][0]["keypoints"]) == 17
    assert without["people"] == []


def test_coco_rows_are_one_list_with_numbers_for_coco_names(tmp_path: Path) -> None:
    for name in ("000000000139.jpg", "me.jpg"):
        (tmp_path / name).write_bytes(ASTRONAUT.read_bytes())
    rows = json.loads(posewire("predict", tmp_path, "--json", "--format", "coco").stdout)
    assert {row["image_id"] for row in rows} == {139, "me.jpg"}
    assert {len(row["keypoints"]) for row in rows} == {51}


def test_drawn_images_never_replace_anything(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "a.jpg").write_bytes(encode(landscape()))
    sources = {path: path.read_bytes() for path in folder.rglob("*.jpg")}
    run = posewire("predict", folder / "a.jpg", other / "a.jpg", "--out", folder)
    drawn = {path.name for path in folder.glob("*.pose.*")}
    assert run.returncode == 0
    assert drawn == {"a.pose.jpg", "a-2.pose.jpg"}
    assert all(path.read_bytes() == content for path, content in sources.items())
    image = cv2.imread(str(folder / "a.pose.jpg"))
    assert image is not None
    assert image.shape == (512, 512, 3)


def test_a_bad_picture_among_good_ones_is_told_and_the_rest_is_done(folder: Path) -> None:
    (folder / "aa.jpg").write_bytes(b"no image")
    run = posewire("predict", folder, "--json")
    assert run.returncode == 1
    assert [("error" in entry, Path(entry["file"]).name) for entry in map(json.loads, run.stdout.splitlines())] == [
        (False, "a.jpg"),
        (True, "aa.jpg"),
        (False, "b.png"),
    ]
    assert "aa.jpg" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "words"),
    [
        (["predict", "nowhere.jpg"], {}, 1, ["nowhere.jpg", "no such image"]),
        (["predict"], {}, 2, ["images"]),
        (["predict", str(ASTRONAUT), "--format", "xml"], {}, 2, ["xml"]),
        (["predict", str(ASTRONAUT), "--out", "/proc/nothing/here"], {}, 1, ["cannot be made"]),
        (["predict", str(ASTRONAUT), "--device", "cuda"], {}, 1, ["CUDAExecutionProvider", "onnxruntime-gpu"]),
        (["predict", str(ASTRONAUT)], {"device": "tpu"}, 1, ["POSEWIRE_DEVICE", "tpu"]),
        (["predict", str(ASTRONAUT)], {"detecter": "x"}, 1, ["POSEWIRE_DETECTER"]),
        (["predict", str(ASTRONAUT)], {"pose": DETECTOR.name}, 1, [DETECTOR.name, POSE.name]),
        (["models", "verify", "nobody"], {}, 1, ["nobody", DETECTOR.name]),
        (["serve"], {"model_store": "/nowhere"}, 1, ["/nowhere"]),
        (["nonsense"], {}, 2, ["nonsense"]),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(arguments: list[str], settings: dict[str, str], code: int, words: list[str]) -> None:
    run = posewire(*arguments, **settings)
    assert run.returncode == code
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    if code == 1:
        assert len(run.stderr.splitlines()) == 1
    for word in words:
        assert word in run.stderr


def test_models_list_and_verify() -> None:
    listed = json.loads(posewire("models", "list", "--json").stdout)
    assert {spec["task"] for spec in listed if spec["default"]} == {"pose", "detector"}
    verified = posewire("models", "verify")
    assert verified.returncode == 0
    assert sorted(verified.stdout.split("\n")[:-1]) == sorted(f"{spec['name']}: ok" for spec in listed if spec["state"] == "shipped")
    table = posewire("models", "list").stdout
    assert all(spec["name"] in table for spec in listed if spec["state"] == "shipped")


def test_doctor_tells_the_device_and_the_models() -> None:
    found = json.loads(posewire("doctor", "--json").stdout)
    assert found["ok"] is True
    assert found["posewire"] == __version__
    built = FILE.is_file()
    assert "CPUExecutionProvider" in found["detector"]
    assert ("PosewireKernels" if built else "CPUExecutionProvider") in found["pose"]
    assert built or "not built" in found["kernels"]
    sick = posewire("doctor", "--device", "cuda")
    assert sick.returncode == 1
    assert "CUDAExecutionProvider" in sick.stdout


def test_version() -> None:
    assert posewire("--version").stdout.strip() == __version__
