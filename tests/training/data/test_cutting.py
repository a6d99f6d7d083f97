import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_store.training.data import crops, known, labels, scenes
from model_store.training.data.labelling import label_scenes
from model_store.training.data.records import Scene, read_image
from model_store.training.data.sets import load_sets
from posewire.errors import PosewireError
from posewire.types import FloatArray, UInt8Array
from tests.training.data.stick import SETS, coco_set, save, stick, stick_sets


def data(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_store.training.data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    return stick_sets(tmp_path, train=10, held_out=3)


def test_people_are_cut_with_their_keypoints(sets: Path, tmp_path: Path) -> None:
    run = data("cut", sets, "--out", tmp_path / "crops", "--side", 96)
    assert (run.returncode, run.stderr) == (0, "")
    assert "10 people to train on, 3 held out, no leaks" in run.stdout
    cut = crops.open_crops(tmp_path / "crops/train")
    assert cut.images.shape == (10, 96, 96, 3)
    assert cut.sources == ["sticks"]
    for n in range(10):
        made = stick(n)
        centre = cut.boxes_xywh[n, :2] + cut.boxes_xywh[n, 2:] / 2
        np.testing.assert_allclose(centre, [48, 48], atol=0.01)
        assert cut.boxes_xywh[n, 3] <= 96 / crops.AROUND / 1.25 + 0.01
        scale = cut.boxes_xywh[n, 3] / made.box_xywh[3]
        from_centre = made.keypoints_xy - made.box_xywh[:2] - made.box_xywh[2:] / 2
        np.testing.assert_allclose((cut.keypoints_xy[n] - centre) / scale, from_centre, atol=0.1)
    # The sticks, which have little blue, are where the keypoints are.
    at = cut.keypoints_xy.round().astype(int)
    blue = cut.images[np.arange(10)[:, None], at[..., 1], at[..., 0], 2]
    assert blue.mean() < 85
    assert cut.images[:, 20:76, 20:76, 2].mean() > 105


def test_images_are_made_small_with_their_boxes(sets: Path, tmp_path: Path) -> None:
    assert data("cut", sets, "--task", "detector", "--out", tmp_path / "scenes", "--side", 100).returncode == 0
    cut = scenes.open_scenes(tmp_path / "scenes/train")
    assert cut.images.shape == (10, 100, 100, 3)
    assert cut.sizes_hw.tolist() == [[100, 80]] * 10
    assert (cut.images[:, :, 80:] == scenes.PAD).all()
    for n in range(10):
        np.testing.assert_allclose(cut.boxes_xywh[n], [stick(n).box_xywh / 2], atol=1e-3)


@pytest.mark.parametrize("task", ["pose", "detector"])
@pytest.mark.parametrize("name", ["copy.jpg", f"{102:012d}.jpg"])
def test_a_held_out_image_ends_the_cutting(sets: Path, tmp_path: Path, task: str, name: str) -> None:
    """A copy of image 101, re-encoded, in the training data; or an image that has a held-out number, whatever it shows."""
    file = tmp_path / "train/people.json"
    file.write_text(file.read_text().replace(f"{4:012d}.jpg", name))
    save(tmp_path / "train/images" / name, stick(101).pixels if name == "copy.jpg" else stick(4).pixels, quality=40)
    run = data("cut", sets, "--task", task, "--out", tmp_path / "out", "--side", 64)
    assert run.returncode == 1
    culprit = (
        "sticks/copy: looks like held-out coco/000000000101" if name == "copy.jpg" else f"coco/{102:012d}: held out by its COCO number"
    )
    assert run.stderr.startswith("1 held-out images are in the training data")
    assert culprit in run.stderr
    if name == "copy.jpg":
        sets.write_text(f'exclude = ["sticks/copy"]\n{SETS}')
        shutil.rmtree(tmp_path / "out/train")
        again = data("cut", sets, "--task", task, "--out", tmp_path / "out", "--side", 64)
        assert again.stdout.endswith("to train on, 3 held out, no leaks\n")
        assert " 9 " in again.stdout


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (('name = "val"', 'name = "val"\ncolour = 1'), "held_out.0.coco.colour: there is no such key"),
        (('kind = "coco"', 'kind = "kinetics"'), "train.0: input tag 'kinetics'"),
        (("[[held_out]]", "[[tested]]"), "tested: there is no such key"),
        (('annotations = "train/people.json"', ""), "train.0.coco.annotations: field required"),
        (("[[train]]", "[[train"), "is not valid TOML"),
    ],
)
def test_a_fault_in_the_file_of_sets_is_named(sets: Path, change: tuple[str, str], fault: str) -> None:
    sets.write_text(SETS.replace(*change, 1))
    with pytest.raises(PosewireError) as caught:
        load_sets(sets)
    assert fault in str(caught.value)
    assert str(sets) in str(caught.value)


def test_a_set_is_labelled_by_a_teacher(tmp_path: Path) -> None:
    _, images = coco_set(tmp_path, range(3))
    made = [stick(n) for n in range(3)]

    def teacher(pixels: UInt8Array, box_xywh: FloatArray) -> tuple[FloatArray, FloatArray]:
        seen = [np.abs(pixels.astype(int) - m.pixels).mean() for m in made]
        n = int(np.argmin(seen))
        return made[n].keypoints_xy, np.full(17, 0.9 if n < 2 and seen[n] < 20 else 0.1, np.float32)

    unlabelled = [Scene(images / f"{n:012d}.jpg", m.box_xywh[None], "s", f"s/{n}") for n, m in enumerate(made)]
    file = tmp_path / "labels.npz"
    assert label_scenes(teacher, unlabelled, file, tmp_path, advance=lambda: None) == 2
    people = labels.load_people(file, tmp_path)
    assert [person.image for person in people] == [images / f"{n:012d}.jpg" for n in range(2)]
    assert read_image(people[0].image).shape == made[0].pixels.shape
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "labels.npz", "people.json"]


def test_a_known_set_is_cloned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = tmp_path / "axelcarlier" / "lsp"
    origin.mkdir(parents=True)
    (origin / "README.txt").write_text("poses")
    author = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=origin, check=True, env=os.environ | author)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{tmp_path}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    for _ in range(2):
        assert (known.fetch("lsp-extended", tmp_path / "sets") / "README.txt").read_text() == "poses"
    with pytest.raises(PosewireError, match="human-dataset cannot be fetched"):
        known.fetch("human-dataset-v2", tmp_path / "sets")
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["lsp-extended"]
    with pytest.raises(PosewireError, match=r"images\.cocodataset\.org/zips/train2017\.zip"):
        known.fetch("coco", tmp_path)
    with pytest.raises(PosewireError, match="known: coco, "):
        known.fetch("imagenet", tmp_path)
