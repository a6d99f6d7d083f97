import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_store.training.data import coco
from model_store.training.data.records import read_image
from posewire.errors import PosewireError
from tests.training.data.stick import coco_set, stick


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_people_are_where_the_annotation_says(tmp_path: Path) -> None:
    people = coco.load_people(*coco_set(tmp_path, range(3)))
    assert [person.id for person in people] == [f"coco/{seed:012d}" for seed in range(3)]
    for seed, person in enumerate(people):
        made = stick(seed)
        np.testing.assert_allclose(person.box_xywh, made.box_xywh, atol=1e-3)
        np.testing.assert_allclose(person.keypoints_xy, made.keypoints_xy, atol=1e-3)
        assert person.weights.tolist() == [1] * 17
        assert np.abs(read_image(person.image).astype(int) - made.pixels).mean() < 8  # JPEG


def test_crowds_and_people_with_too_few_keypoints_are_left_out(tmp_path: Path) -> None:
    file, images = coco_set(tmp_path, range(4))

    def change(content: dict[str, Any]) -> None:
        rows = content["annotations"]
        rows[0]["iscrowd"] = 1
        rows[1]["keypoints"] = rows[1]["keypoints"][:6] + [0] * 45
        rows[2]["bbox"][3] = 20

    edit(file, change)
    assert [person.id[-1] for person in coco.load_people(file, images)] == ["3"]
    assert [len(scene.boxes_xywh) for scene in coco.load_scenes(file, images)] == [0, 1, 1, 1]


def test_a_hidden_keypoint_counts_and_an_absent_one_does_not(tmp_path: Path) -> None:
    file, images = coco_set(tmp_path, range(1))

    def change(content: dict[str, Any]) -> None:
        keypoints = content["annotations"][0]["keypoints"]
        keypoints[2], keypoints[5] = 1, 0

    edit(file, change)
    (person,) = coco.load_people(file, images)
    assert person.weights.tolist() == [1, 0] + [1] * 15


def test_images_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    file, images = coco_set(tmp_path, range(3))
    (images / f"{1:012d}.jpg").unlink()
    assert [person.id[-1] for person in coco.load_people(file, images)] == ["0", "2"]
    with pytest.raises(PosewireError, match="none of the 3 images"):
        coco.load_people(file, tmp_path / "elsewhere")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 1, "annotations": []}', '{"images": [], "annotations": [{}]}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "people.json"
    file.write_text(text)
    with pytest.raises(PosewireError, match=r"people\.json is not COCO's JSON"):
        coco.load_people(file, tmp_path)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    file, images = coco_set(tmp_path, range(1))
    (images / f"{0:012d}.jpg").write_bytes(b"no image")
    (person,) = coco.load_people(file, images)
    with pytest.raises(PosewireError, match=r"000000000000\.jpg is not an image"):
        read_image(person.image)
