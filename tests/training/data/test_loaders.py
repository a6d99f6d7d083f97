"""YOLO folders, LSP, and files of labelled people."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_store.training.data import coco, labels, lsp, yolo
from posewire.errors import PosewireError
from tests.training.data.stick import coco_set, save, stick, yolo_pose_line

pytest.importorskip("PIL", reason="Pillow is not installed: YOLO folders are not tested")
scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed: LSP is not tested")


def yolo_set(folder: Path, lines: dict[str, str]) -> tuple[Path, Path]:
    for seed, (name, line) in enumerate(lines.items()):
        save(folder / "images" / f"{name}.jpg", stick(seed).pixels)
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"{name}.txt").write_text(line)
    return folder / "images", folder / "labels"


def test_yolo_pose_is_read_in_pixels(tmp_path: Path) -> None:
    made = stick(0)
    images, texts = yolo_set(tmp_path, {"000000000042_jpg.rf.0a": yolo_pose_line(made), "b": ""})
    (person,) = yolo.load_people(images, texts, source="s")
    assert person.id == "coco/000000000042"
    np.testing.assert_allclose(person.keypoints_xy, made.keypoints_xy, atol=1e-3)
    np.testing.assert_allclose(person.box_xywh, made.box_xywh, atol=1e-3)
    assert [len(scene.boxes_xywh) for scene in yolo.load_scenes(images, texts, source="s")] == [1, 0]


def test_yolo_detection_keeps_one_class_boxes_and_polygons(tmp_path: Path) -> None:
    images, texts = yolo_set(tmp_path, {"a": "0 0.5 0.5 0.25 0.5\n7 0.1 0.1 0.1 0.1\n0 0.25 0.5 0.75 0.5 0.75 0.75\n"})
    save(images / "unlabelled.jpg", stick(9).pixels)
    (scene,) = yolo.load_scenes(images, texts, source="s")
    assert scene.id == "s/a"
    assert scene.boxes_xywh.tolist() == [[60, 50, 40, 100], [40, 100, 80, 50]]
    assert yolo.load_scenes(images, texts, source="s", person_class=7)[0].boxes_xywh.shape == (1, 4)


@pytest.mark.parametrize(("line", "why"), [("0 1 2", "line 1: 3 numbers"), ("0 a 1 1 1", "line 1: '0 a 1 1 1' is not")])
def test_a_bad_line_is_named(tmp_path: Path, line: str, why: str) -> None:
    folders = yolo_set(tmp_path, {"a": line})
    with pytest.raises(PosewireError, match=f"a.txt, {why}"):
        yolo.load_scenes(*folders, source="s")
    with pytest.raises(PosewireError, match=f"a.txt, {why}"):
        yolo.load_people(*folders, source="s")


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PosewireError, match="no label for any"):
        yolo.load_scenes(tmp_path, tmp_path, source="s")


@pytest.mark.parametrize(("shape", "digits"), [((14, 3, 2), 5), ((3, 14, 2), 4)])
def test_both_forms_of_lsp_give_twelve_joints(tmp_path: Path, shape: tuple[int, ...], digits: int) -> None:
    people = [stick(0), stick(1)]
    # From right to left, from the ankles up: COCO's numbers, and neck and head that COCO lacks.
    order = [16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9]
    joints = np.zeros((2, 14, 3))
    for n, made in enumerate(people):
        save(tmp_path / f"images/im{n + 1:0{digits}d}.jpg", made.pixels)
        joints[n, :12, :2], joints[n, 12:, :2] = made.keypoints_xy[order], made.keypoints_xy[0]
    joints[:, :, 2] = 1 if digits == 5 else 0  # annotated; hidden: nobody is
    scipy_io.savemat(tmp_path / "joints.mat", {"joints": joints.transpose(1, 2, 0) if digits == 5 else joints.transpose(2, 1, 0)})
    assert scipy_io.loadmat(tmp_path / "joints.mat")["joints"].shape == shape
    found = lsp.load_people(tmp_path, source="lsp")
    assert [person.id for person in found] == [f"lsp/im{n:0{digits}d}" for n in (1, 2)]
    for made, person in zip(people, found, strict=True):
        np.testing.assert_allclose(person.keypoints_xy[5:], made.keypoints_xy[5:], atol=1e-3)
        assert person.weights.tolist() == [0] * 5 + [1] * 12


def test_lsp_without_its_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PosewireError, match=r"joints\.mat"):
        lsp.load_people(tmp_path)
    (tmp_path / "joints.mat").write_bytes(b"nothing of MATLAB" * 20)
    with pytest.raises(PosewireError, match=r"joints\.mat"):
        lsp.load_people(tmp_path)


def test_people_come_back_from_their_file(tmp_path: Path) -> None:
    people = coco.load_people(*coco_set(tmp_path, range(3)))
    labels.save_people(people, tmp_path / "people.npz", tmp_path)
    back = labels.load_people(tmp_path / "people.npz", tmp_path)
    assert [(p.id, p.source, p.image) for p in back] == [(p.id, p.source, p.image) for p in people]
    for before, after in zip(people, back, strict=True):
        np.testing.assert_allclose(after.box_xywh, before.box_xywh, atol=1e-3)
        np.testing.assert_array_equal(after.keypoints_xy, before.keypoints_xy)
        np.testing.assert_array_equal(after.weights, before.weights)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    labels.save_people(people, elsewhere / "people.npz", elsewhere)
    found = [p.image for p in labels.load_people(elsewhere / "people.npz", elsewhere)]
    assert [path.resolve() for path in found if isinstance(path, Path)] == [p.image for p in people]
    in_memory = [replace(people[0], image=np.zeros((4, 4, 3), np.uint8))]
    with pytest.raises(PosewireError, match="1 of 1 people are not on images that are files"):
        labels.save_people(in_memory, tmp_path / "people.npz", tmp_path)
    (tmp_path / "people.npz").write_bytes(b"PK")
    with pytest.raises(PosewireError, match=r"people\.npz is not a file of labelled people"):
        labels.load_people(tmp_path / "people.npz", tmp_path)
