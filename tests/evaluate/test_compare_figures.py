"""AP of resamples is that of pycocotools, and the intervals of differences hold what they promise."""

import json
from pathlib import Path

import numpy as np
import pytest

from posewire.tools.evaluate.annotations import Annotations, Row
from posewire.tools.evaluate.compare.average_precision import AP_NAMES, AveragePrecision
from posewire.tools.evaluate.compare.bootstrap import Difference, Figures, differences
from posewire.tools.evaluate.compare.matches import match
from posewire.tools.evaluate.compare.people import KeypointSums
from tests.evaluate.crowds import FIVE, Judged, Model, crowd, judged, predict, write_set
from tests.sample_images import COCO_MINI_VAL

NAMES = KeypointSums.names(FIVE)
INDICES = AP_NAMES.index("AP"), NAMES.index("oks left_hand")


def moved_to(image: int, rows: list[Row]) -> list[Row]:
    return [row | {"image_id": image} for row in rows]


@pytest.mark.parametrize("seed", range(3))
def test_ap_is_that_of_pycocotools(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = crowd(rng, 25)
    rows = [predict(rng, Model(0.05), ones, number) for number, ones in enumerate(people, 1)]
    data = write_set(tmp_path / "once", people)
    once, _ = judged(data, rows)
    expected = data.keypoint_ap([row for found in rows for row in found])
    assert dict(zip(AP_NAMES, once(np.ones((1, 25), np.int32))[0], strict=True)) == pytest.approx(expected, abs=1e-12)
    assert 0.1 < expected["AP"] < 0.9
    assert expected["APm"] != expected["APl"]

    times = rng.multinomial(25, [1 / 25] * 25)  # as many images, some never and some several times
    drawn = [i for i, count in enumerate(times) for _ in range(count)]
    again = write_set(tmp_path / "drawn", [people[i] for i in drawn])
    expected = again.keypoint_ap([row for number, i in enumerate(drawn, 1) for row in moved_to(number, rows[i])])
    assert dict(zip(AP_NAMES, once(times[None].astype(np.int32))[0], strict=True)) == pytest.approx(expected, abs=1e-12)


def test_more_than_20_predictions_of_an_image_are_cut_as_by_coco(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    people = crowd(rng, 4)
    rows = [predict(rng, Model(0.05, false=40), ones, number) for number, ones in enumerate(people, 1)]
    data = write_set(tmp_path / "set", people)
    precision, _ = judged(data, rows)
    assert precision.predictions == 80
    expected = data.keypoint_ap([row for found in rows for row in found])
    assert precision(np.ones((1, 4), np.int32))[0].tolist() == pytest.approx([expected[name] for name in AP_NAMES], abs=1e-12)


def test_an_id_of_0_and_ids_that_are_there_twice_are_people_like_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    [people] = crowd(rng, 1)
    people = [one | {"iscrowd": 0} for one in people]
    found = predict(rng, Model(0, missed=0, false=0), people, 1)
    data = write_set(tmp_path / "set", [people])
    truth = [row | {"id": 0} for row in data.truth(data.images[0])]
    assert AveragePrecision([match(truth, found, FIVE.oks_sigmas)])(np.ones((1, 1), np.int32))[0, 0] == pytest.approx(1)


def test_nobody_of_a_size_is_no_figure_and_no_predictions_are_a_zero(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    people = [[one | {"area": 200.0**2, "iscrowd": 0} for one in ones] for ones in crowd(rng, 6)]
    data = write_set(tmp_path / "set", people)
    nothing, sums = judged(data, [[]] * 6)
    drawn = dict(zip(AP_NAMES, differences(nothing, nothing, 6, 1, resamples=50), strict=True))
    assert drawn["APm"] == Difference(None, None, None, None, None)
    assert drawn["AP"] == drawn["ARl"] == Difference(0, 0, 0, 0, 0)
    of_people = dict(zip(NAMES, differences(sums, sums, 6, 1, resamples=50), strict=True))
    assert of_people["found"] == of_people["oks all"] == Difference(0, 0, 0, 0, 0)


def test_a_figure_that_few_resamples_have_gets_no_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    people = [[one | {"area": 50.0**2, "iscrowd": 0} for one in ones] for ones in crowd(rng, 8)]
    people[0] = [one | {"area": 200.0**2} for one in people[0]]  # a resample has this image with a chance of 0.66
    assert people[0]
    rows = [predict(rng, Model(0.03), ones, number) for number, ones in enumerate(people, 1)]
    precision, _ = judged(write_set(tmp_path / "set", people), rows)
    drawn = dict(zip(AP_NAMES, differences(precision, precision, 8, 1, resamples=100), strict=True))
    assert drawn["APl"].difference == 0
    assert (drawn["APl"].low, drawn["APl"].high) == (None, None)
    assert not drawn["APl"].excludes_zero
    assert (drawn["AP"].low, drawn["AP"].high) == (0, 0)


def test_a_model_is_not_better_than_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    people = crowd(rng, 30)
    data = write_set(tmp_path / "set", people)
    rows = [predict(rng, Model(0.05), ones, number) for number, ones in enumerate(people, 1)]
    first: tuple[Figures, Figures] = judged(data, rows)
    second: tuple[Figures, Figures] = judged(data, rows)
    for a, b in zip(first, second, strict=True):
        for one in differences(a, b, 30, 100, resamples=100):
            assert (one.difference, one.low, one.high, one.excludes_zero) == (0, 0, 0, False)


def test_a_better_model_is_found_on_either_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    people = crowd(rng, 60)
    data = write_set(tmp_path / "set", people)
    good, bad = ([predict(rng, model, ones, i) for i, ones in enumerate(people, 1)] for model in (Model(0.03), Model(0.09)))
    (good_ap, good_sums), (bad_ap, bad_sums) = judged(data, good), judged(data, bad)
    better, worse = (differences(a, b, 60, 200, resamples=300)[0] for a, b in ((bad_ap, good_ap), (good_ap, bad_ap)))
    assert better.low is not None
    assert worse.high is not None
    assert better.low > 0 > worse.high
    assert (better.a, better.b) == (worse.b, worse.a)
    assert better.difference == pytest.approx(-(worse.difference or 0))
    assert better.low == pytest.approx(-worse.high), "both are of the same draws"
    of_keypoints = dict(zip(NAMES, differences(bad_sums, good_sums, 60, 1, resamples=300), strict=True))
    assert all(of_keypoints[f"oks {name}"].excludes_zero for name in ("all", *FIVE.names))


def test_how_many_resamples_are_computed_at_once_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    people = crowd(rng, 10)
    data = write_set(tmp_path / "set", people)
    [(a, _), (b, _)] = (judged(data, [predict(rng, Model(e), ones, i) for i, ones in enumerate(people, 1)]) for e in (0.04, 0.05))
    calls: list[None] = []
    many = differences(a, b, 10, 1, lambda: calls.append(None), resamples=64)
    assert len(calls) == 64
    assert differences(a, b, 10, 30_000, resamples=64) == many
    assert differences(a, b, 10, 1, resamples=64, seed=1) != many


def test_the_interval_holds_the_true_difference_as_often_as_it_says(tmp_path: Path) -> None:
    """A population of 600 images, whose differences are known; every sample of 60 of them gives an interval."""
    rng = np.random.default_rng(8)
    population, size, samples = 600, 60, 100
    people = crowd(rng, population)
    data = write_set(tmp_path / "set", people)
    a, b = (Judged(data, [predict(rng, Model(e), ones, i) for i, ones in enumerate(people, 1)]) for e in (0.06, 0.045))
    once = np.ones((1, population), np.int32)
    held, sure = np.zeros(2), np.zeros(2)
    all_a: tuple[Figures, Figures] = a.figures()
    all_b: tuple[Figures, Figures] = b.figures()
    truth = [float((of_b(once) - of_a(once))[0, index]) for of_a, of_b, index in zip(all_a, all_b, INDICES, strict=True)]
    assert min(truth) > 0.02
    for sample in range(samples):
        images = rng.choice(population, size, replace=False).tolist()
        some_a: tuple[Figures, Figures] = a.figures(images)
        some_b: tuple[Figures, Figures] = b.figures(images)
        for kind, (of_a, of_b, index) in enumerate(zip(some_a, some_b, INDICES, strict=True)):
            found = differences(of_a, of_b, size, 300, resamples=200, seed=sample)[index]
            assert found.low is not None
            assert found.high is not None
            held[kind] += found.low <= truth[kind] <= found.high
            sure[kind] += found.low > 0
    assert (held >= 0.88 * samples).all(), f"{held} of {samples} intervals of AP and of the hand hold the difference"
    assert (sure >= 0.3 * samples).all(), "the intervals are not so wide that they say nothing"


@pytest.mark.skipif(not COCO_MINI_VAL.is_dir(), reason="needs shared/data/coco-mini-val")
def test_coco_s_own_people_are_scored_as_by_pycocotools() -> None:
    data = Annotations(COCO_MINI_VAL / "person_keypoints.json", COCO_MINI_VAL / "images")
    rng = np.random.default_rng(9)
    ordered = sorted(data.images, key=lambda image: image.image_id)
    rows = [predict(rng, Model(0.06), data.truth(image), image.image_id, 17) for image in ordered]
    matches = [match(data.truth(image), found, data.keypoints.oks_sigmas) for image, found in zip(ordered, rows, strict=True)]
    found = AveragePrecision(matches)(np.ones((1, len(matches)), np.int32))[0]
    expected = data.keypoint_ap([row for found in rows for row in found])
    assert found.tolist() == pytest.approx([expected[name] for name in AP_NAMES], abs=1e-12)
    assert 0.1 < expected["AP"] < 0.95


def test_other_sigmas_are_those_of_the_keypoint_set(tmp_path: Path) -> None:
    content = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 100, 100], "area": 10_000.0, "keypoints": [50, 50, 2] * 5}
    data = write_set(tmp_path / "set", [[content]])
    row = {"image_id": 1, "keypoints": [53, 50, 1] * 5, "score": 1.0, "bbox": [0, 0, 100, 100]}
    _, sums = judged(data, [[row]])
    values = dict(zip(NAMES, sums(np.ones((1, 1), np.int32))[0], strict=True))
    assert values["oks head"] == pytest.approx(np.exp(-9 / (2 * 10_000 * 0.06**2)))
    assert values["oks left_foot"] == pytest.approx(np.exp(-9 / (2 * 10_000 * 0.16**2)))
    assert values["right all"] == values["found"] == 1
    assert sums.counts == [5, 1, 1, 1, 1, 1]
    assert json.loads((tmp_path / "set/set.json").read_text())["annotations"][0].keys() == content.keys(), "num_keypoints is counted"
