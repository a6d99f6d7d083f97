"""Images that were stretched, images without annotations, and sets that are for research only."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_store.training.data import coco, crops, image_folders, labels, scenes, unstretch, yolo
from model_store.training.data.known import KNOWN, is_for_research
from model_store.training.data.records import StoredImage, Stretched, read_image
from model_store.training.data.sets import load_sets, scenes_of, training_people, training_scenes
from model_store.training.sampling import chances, without_research
from posewire.errors import PosewireError
from posewire.types import FloatArray
from tests.training.data.stick import SETS, coco_set, save, stick, stick_sets, yolo_pose_line

ID = f"{3:012d}"
STICK = stick(3)  # 160 wide, 200 high


@pytest.fixture
def squeezed(tmp_path: Path) -> Path:
    """A folder with image 3 as a square of 128, with labels in COCO's and YOLO's form, and a table of sizes."""
    coco_set(tmp_path, range(3, 5))
    save(tmp_path / "images" / f"{ID}.jpg", np.asarray(cv2.resize(STICK.pixels, (128, 128), interpolation=cv2.INTER_AREA), np.uint8), 98)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{ID}.txt").write_text(yolo_pose_line(STICK))
    (tmp_path / "sizes.tsv").write_text(f"id\twidth\theight\n{ID}\t160\t200\n{4:012d}\t160\t200\n{9:012d}\t640\t480\n")
    return tmp_path


def check(found: StoredImage, box: FloatArray, keypoints: FloatArray | None = None) -> None:
    """The image has its own shape again, with the shorter side of the square, and annotations are where they belong."""
    assert isinstance(found, Stretched)
    assert (found.width, found.height) == (128, 160)
    pixels = read_image(found)
    assert pixels.shape == (160, 128, 3)
    assert np.abs(pixels.astype(int) - cv2.resize(STICK.pixels, (128, 160), interpolation=cv2.INTER_AREA)).mean() < 10
    np.testing.assert_allclose(box, STICK.box_xywh * 0.8, atol=0.01)
    if keypoints is not None:
        np.testing.assert_allclose(keypoints, STICK.keypoints_xy * 0.8, atol=0.01)


def test_a_stretched_image_of_coco_is_put_right(squeezed: Path) -> None:
    sizes = unstretch.load_sizes(squeezed / "sizes.tsv")
    person, whole = coco.load_people(squeezed / "people.json", squeezed / "images", sizes=sizes)
    check(person.image, person.box_xywh, person.keypoints_xy)
    assert whole.image == squeezed / "images" / f"{4:012d}.jpg"
    np.testing.assert_allclose(whole.keypoints_xy, stick(4).keypoints_xy, atol=0.01)
    scene, _ = coco.load_scenes(squeezed / "people.json", squeezed / "images", sizes=sizes)
    check(scene.image, scene.boxes_xywh[0])


def test_a_stretched_image_of_yolo_is_put_right(squeezed: Path) -> None:
    sizes = unstretch.load_sizes(squeezed / "sizes.tsv")
    (person,) = yolo.load_people(squeezed / "images", squeezed / "labels", source="s", sizes=sizes)
    check(person.image, person.box_xywh, person.keypoints_xy)
    (scene,) = yolo.load_scenes(squeezed / "images", squeezed / "labels", source="s", sizes=sizes)
    check(scene.image, scene.boxes_xywh[0])


def test_labelled_people_of_stretched_images_are_put_right(squeezed: Path) -> None:
    people = yolo.load_people(squeezed / "images", squeezed / "labels", source="s")
    labels.save_people(people, squeezed / "people.npz", squeezed)
    (person,) = labels.load_people(squeezed / "people.npz", squeezed, unstretch.load_sizes(squeezed / "sizes.tsv"))
    check(person.image, person.box_xywh, person.keypoints_xy)


def test_an_image_that_is_only_smaller_stays(squeezed: Path) -> None:
    save(squeezed / "images" / f"{9:012d}.jpg", np.zeros((99, 131, 3), np.uint8))
    found, size, stored = unstretch.true_image(squeezed / "images" / f"{9:012d}.jpg", unstretch.load_sizes(squeezed / "sizes.tsv"))
    assert found == squeezed / "images" / f"{9:012d}.jpg"
    assert size.tolist() == stored.tolist() == [131, 99]


def test_sets_name_their_table_and_crops_are_not_squeezed(squeezed: Path) -> None:
    stick_sets(squeezed, train=1, held_out=2)
    yolo_set = '[[train]]\nname = "y"\nkind = "yolo-pose"\nimages = "images"\nlabels = "labels"\nsizes = "sizes.tsv"\n'
    held_out = SETS[SETS.index("[[held_out]]") :]
    (squeezed / "sets.toml").write_text(yolo_set + held_out)
    command = [sys.executable, "-m", "model_store.training.data", "cut", "sets.toml", "--out", "cut", "--side", "96"]
    subprocess.run(command, cwd=squeezed, check=True, env={"PYTHONPATH": str(Path(__file__).parents[3])}, capture_output=True)
    cut = crops.open_crops(squeezed / "cut/train")
    width, height = cut.boxes_xywh[0, 2:]
    assert width / height == pytest.approx(STICK.box_xywh[2] / STICK.box_xywh[3], rel=1e-3)


@pytest.mark.parametrize("line", [f"{ID}\t10", f"{ID}\t0\t10", "12\t3\t4", f"{ID} 3 4"])
def test_a_bad_line_of_sizes_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "sizes.tsv").write_text(f"id\twidth\theight\n{line}\n")
    with pytest.raises(PosewireError, match=r"sizes\.tsv, line 2"):
        unstretch.load_sizes(tmp_path / "sizes.tsv")
    with pytest.raises(PosewireError, match="cannot be read"):
        unstretch.load_sizes(tmp_path / "none.tsv")


def test_folders_of_images_are_of_nobody_or_unlabelled(squeezed: Path) -> None:
    save(squeezed / "images" / "below" / "x.jpg", stick(8).pixels)
    found = image_folders.load_scenes(squeezed / "images", source="p", sizes=unstretch.load_sizes(squeezed / "sizes.tsv"))
    assert [scene.id for scene in found] == [f"coco/{3:012d}", f"coco/{4:012d}", "p/x"]
    assert [isinstance(scene.image, Stretched) for scene in found] == [True, False, False]
    assert {scene.labelled for scene in found} == {False}
    assert all(scene.boxes_xywh.shape == (0, 4) for scene in found)
    some = [[scene.id for scene in image_folders.load_scenes(squeezed / "images", source="p", nobody=True, most=2)] for _ in range(2)]
    assert some[0] == some[1]
    assert len(some[0]) == 2
    with pytest.raises(PosewireError, match="has no images"):
        image_folders.load_scenes(squeezed / "labels", source="p")


EXTRA = """
[[train]]
name = "{name}"
kind = "images"
images = "extra"
nobody = {nobody}
"""


@pytest.mark.parametrize("nobody", [True, False])
def test_what_nobody_has_labelled_is_kept_apart(tmp_path: Path, nobody: bool) -> None:
    file = stick_sets(tmp_path, train=2, held_out=2)
    save(tmp_path / "extra" / "a.jpg", stick(50).pixels)
    file.write_text(EXTRA.format(name="more", nobody=str(nobody).lower()) + SETS)
    sets = load_sets(file)
    scenes.cut(training_scenes(sets, tmp_path), tmp_path / "cut", side=64, advance=lambda: None)
    assert list(scenes.open_scenes(tmp_path / "cut").unlabelled) == ([] if nobody else ["more"])
    with pytest.raises(PosewireError, match="more has images only"):
        training_people(sets, tmp_path)


def test_sets_for_research_are_left_out_if_asked(tmp_path: Path) -> None:
    file = stick_sets(tmp_path, train=3, held_out=2)
    people = coco.load_people(tmp_path / "train/people.json", tmp_path / "train/images", source="lspet")
    labels.save_people(people[:1], tmp_path / "people.npz", tmp_path)
    mixed = '[[train]]\nname = "taught"\nkind = "labels"\nfile = "people.npz"\nimages = "."\n'
    # Left out before it is read: its folder is not there.
    absent = EXTRA.format(name="stanford40", nobody="false")
    file.write_text(mixed + SETS)
    assert {p.source for p in training_people(load_sets(file), tmp_path)} == {"lspet", "sticks"}
    # An image that another set has too comes from that then.
    free = training_people(load_sets(file, no_research=True), tmp_path)
    assert [p.source for p in free] == ["sticks"] * 3
    file.write_text(f"research = false\n{absent}{SETS}")
    assert len(training_scenes(load_sets(file), tmp_path)) == 3
    file.write_text(absent + SETS)
    command = [sys.executable, "-m", "model_store.training.data", "cut", str(file), "--out", str(tmp_path / "cut"), "--task", "detector"]
    assert subprocess.run([*command, "--side", "64"], capture_output=True, check=False).returncode == 1
    subprocess.run([*command, "--side", "64", "--no-research"], capture_output=True, check=True)


def test_a_training_leaves_research_out_too() -> None:
    names, source = ["coco", "lsp-extended", "stanford40"], np.array([0, 1, 1, 2], np.int64)
    found = chances(source, names, without_research({"coco": 2.0, "stanford40": 1.3}, names))
    assert found.tolist() == [1, 0, 0, 0]


def test_every_known_set_tells_its_terms() -> None:
    assert {item.name for item in KNOWN if item.research} == {"stanford40", "lsp-extended"}
    assert {"coco", "coco-mini", "human-dataset-v2", "sports100", "negatives"} <= {item.name for item in KNOWN}
    assert all(item.licence and (item.repository or item.advice) for item in KNOWN)
    assert all(item.licence == "research use" for item in KNOWN if item.research)
    assert is_for_research("lspet")
    assert not is_for_research("coco")
    listed = subprocess.run([sys.executable, "-m", "model_store.training.data", "list"], capture_output=True, text=True, check=True).stdout
    assert listed.count("RESEARCH ONLY") == 2


def test_a_set_without_everybody_is_no_detectors(tmp_path: Path) -> None:
    file = stick_sets(tmp_path, train=2, held_out=2)
    file.write_text('[[train]]\nname = "taught"\nkind = "labels"\nfile = "people.npz"\nimages = "."\n' + SETS)
    with pytest.raises(PosewireError, match='kind = "images"'):
        scenes_of(load_sets(file).train[0], tmp_path)


def test_annotations_without_sizes_are_of_the_file(squeezed: Path) -> None:
    file = squeezed / "people.json"
    content = json.loads(file.read_text())
    for each in content["images"]:
        del each["width"], each["height"]
    file.write_text(json.dumps(content))
    people = coco.load_people(file, squeezed / "images", sizes=unstretch.load_sizes(squeezed / "sizes.tsv"))
    np.testing.assert_allclose(people[1].keypoints_xy, stick(4).keypoints_xy, atol=1e-3)
