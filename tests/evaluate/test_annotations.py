"""Average precision by pycocotools, and files that are no annotations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewire.errors import PosewireError
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.tools.evaluate.annotations import Annotations
from posewire.tools.evaluate.joints import find_people
from tests.evaluate.made import BOX, KEYPOINTS, annotation, answer, make_set


def test_a_perfect_answer_is_an_ap_of_one(tmp_path: Path) -> None:
    data = Annotations(make_set(tmp_path, [annotation(1, 1)]), tmp_path / "images")
    assert (data.people, len(data.images)) == (1, 2)
    rows = [answer(1, KEYPOINTS)]
    found = data.keypoint_ap(rows)
    assert [found[name] for name in ("AP", "APl", "APm", "AR")] == pytest.approx([1, 1, -1, 1])
    assert data.box_ap(rows)["AP"] == pytest.approx(1)
    assert data.keypoint_ap([])["AP"] == 0.0


def test_a_false_person_costs_precision_unless_it_scores_less(tmp_path: Path) -> None:
    data = Annotations(make_set(tmp_path, [annotation(1, 1)]), tmp_path / "images")
    elsewhere = [KEYPOINTS[i] + 300 if i % 3 == 0 else KEYPOINTS[i] for i in range(51)]
    surer, lesser = (answer(1, elsewhere, score, [0, 0, 20, 20]) for score in (0.95, 0.5))
    assert data.keypoint_ap([answer(1, KEYPOINTS), lesser])["AP"] == pytest.approx(1)
    assert data.keypoint_ap([answer(1, KEYPOINTS), surer])["AP"] == pytest.approx(0.5)
    assert data.box_ap([answer(1, KEYPOINTS), surer])["AP"] == pytest.approx(0.5)


def test_boxes_are_right_once_wherever_a_person_is_and_not_judged_on_crowds(tmp_path: Path) -> None:
    crowd = annotation(2, 1, iscrowd=1, bbox=[400, 300, 100, 200], segmentation={"size": [512, 512], "counts": [0, 512 * 512]})
    data = Annotations(make_set(tmp_path, [annotation(1, 1), crowd]), tmp_path / "images")
    boxes: list[tuple[list[float], float]] = [(BOX, 0.9), ([22, 8, 380, 500], 0.8), ([0, 0, 20, 20], 0.7), ([410, 310, 80, 150], 0.6)]
    scores, right = data.judged_boxes([answer(1, KEYPOINTS, score, box) for box, score in boxes])
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert right.tolist() == [True, False, False]
    assert [len(part) for part in data.judged_boxes([])] == [0, 0]


def test_crowds_and_people_without_keypoints_are_not_asked_for(tmp_path: Path) -> None:
    bare = annotation(2, 1, keypoints=[0] * 51, num_keypoints=0)
    data = Annotations(make_set(tmp_path, [annotation(1, 1), bare, annotation(3, 1, iscrowd=1, segmentation={})]), tmp_path / "images")
    assert [p.annotation_id for p in data.images[0].people] == [1]
    assert data.images[0].boxes_xywh.tolist() == [BOX]


def test_who_does_not_count_is_neither_found_nor_missed(tmp_path: Path) -> None:
    far = annotation(2, 1, keypoints=[v if i % 3 else v + 9 for i, v in enumerate(KEYPOINTS)], bbox=[0, 0, 9, 9])
    data = Annotations(make_set(tmp_path, [annotation(1, 1), far]), tmp_path / "images")
    assert data.keypoint_ap([answer(1, KEYPOINTS)])["AP"] < 0.6
    assert data.keypoint_ap([answer(1, KEYPOINTS)], lambda number: number == 1)["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoints": [1.0] * 48}, ["annotation 7", "48", "51"]),
        ({"bbox": [0, 0, 0, 10]}, ["annotation 7", "box"]),
        ({"bbox": [0, 0, 10]}, ["annotation 7", "box"]),
        ({"area": float("nan")}, ["annotation 7", "finite"]),
        ({"image_id": 99}, ["KeyError", "99"]),
        ({"num_keypoints": 0}, ["nobody", "person_keypoints"]),
        ({"num_keypoints": "many"}, ["not a file of COCO person keypoints"]),
    ],
)
def test_bad_annotations_are_named(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    file = make_set(tmp_path, [annotation(7, 1, **change)])
    with pytest.raises(PosewireError) as caught:
        Annotations(file, tmp_path / "images")
    assert all(word in str(caught.value) for word in [*words, str(file)])


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"images": 3, "annotations": []}', json.dumps({"images": []}), "\xff"])
def test_another_file_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(PosewireError, match="not a file of COCO person keypoints") as caught:
        Annotations(tmp_path / "a.json", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    file = make_set(tmp_path, [annotation(1, 1)])
    (tmp_path / "images" / "nobody.jpg").unlink()
    with pytest.raises(PosewireError, match=r"nobody\.jpg is named in .* but is not there"):
        Annotations(file, tmp_path / "images")


def test_another_keypoint_set_is_scored_by_its_own_sigmas(tmp_path: Path) -> None:
    hand, area = KEYPOINT_SETS["hand-21"], 110_000.0
    points = [value for i in range(21) for value in (50 + 10 * i, 60 + 8 * i, 2)]
    row = annotation(1, 1, keypoints=points, num_keypoints=21, area=area)
    data = Annotations(make_set(tmp_path, [row]), tmp_path / "images", hand)
    # Each keypoint is off by what its own sigma makes an OKS of 0.82: right at the seven thresholds from 0.5 to 0.8.
    off = [np.sqrt(-2 * np.log(0.82) * area) * 2 * sigma for sigma in hand.oks_sigmas]
    found = [value + off[i // 3] if i % 3 == 0 else value for i, value in enumerate(points)]
    assert data.keypoint_ap([answer(1, points)])["AP"] == pytest.approx(1)
    assert data.keypoint_ap([answer(1, found)])["AP"] == pytest.approx(0.7)
    assert find_people(data.images, [answer(1, found)])[0].oks == pytest.approx(0.82, rel=1e-4)


def test_the_parts_of_a_whole_body_are_one_list(tmp_path: Path) -> None:
    parts = {
        "foot_kpts": [1.0, 2, 2] * 6,
        "face_kpts": [3.0, 4, 1] * 68,
        "lefthand_kpts": [5.0, 6, 2] * 21,
        "righthand_kpts": [0.0, 0, 0] * 21,
    }
    data = Annotations(make_set(tmp_path, [annotation(1, 1, **parts)]), tmp_path / "images", KEYPOINT_SETS["coco-wholebody-133"])
    [person] = data.images[0].people
    assert person.xy[[0, 17, 23, 91, 112]].tolist() == [KEYPOINTS[:2], [1, 2], [3, 4], [5, 6], [0, 0]]
    assert person.visibility[[17, 23, 91, 112]].tolist() == [2, 1, 2, 0]
    everything = [*KEYPOINTS, *(number for part in parts.values() for number in part)]
    assert data.keypoint_ap([answer(1, everything)])["AP"] == pytest.approx(1)
