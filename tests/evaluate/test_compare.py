"""`posewire evaluate --compare` as a person runs it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewire.config import load_settings
from posewire.errors import PosewireError
from posewire.registry.store import ModelStore
from posewire.tools.evaluate.annotations import AnnotatedImage, Person
from posewire.tools.evaluate.compare.cases import Case, WorstCases
from posewire.tools.evaluate.compare.comparing import CompareOptions, compare
from posewire.tools.evaluate.compare.result import Comparison
from posewire.tools.evaluate.predicting import Boxes
from tests.evaluate.made import BOX, annotation, answer, make_set
from tests.evaluate.test_evaluate import assert_stands_alone, of, posewire
from tests.sample_images import COCO_MINI_VAL

STORE = ModelStore()
FAST_POSE, PAPER_POSE = "litehrnet18-wider-128x96", "litehrnet18-128x96"


@contextlib.contextmanager
def no_progress(total: int, what: str) -> Iterator[Callable[[], None]]:
    yield lambda: None


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of the astronaut and one of nobody. She is annotated once; the second image has a box of nobody, too."""
    folder = tmp_path_factory.mktemp("compare") / "set"
    ghost = annotation(3, 2, bbox=[400, 300, 60, 60], area=2000.0)
    make_set(folder, [annotation(1, 1), annotation(2, 2), ghost], people=2)
    return folder


def run(folder: Path, a: str, b: str, boxes: Boxes = "gt", report: Path | None = None, **settings: object) -> Comparison:
    options = CompareOptions((a, b), folder / "images", folder / "annotations.json", boxes, report)
    return compare(options, load_settings({}, **settings), no_progress)


def changed(folder: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The set with other annotations, of the same images."""
    content = json.loads((folder / "annotations.json").read_text())
    change(content)
    target.mkdir()
    (target / "annotations.json").write_text(json.dumps(content))
    (target / "images").symlink_to(folder / "images")
    return target


def test_two_pairs_are_compared_and_the_page_shows_the_worst_cases(work: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = posewire(*of(work), "--compare", "fast", "paper", "--boxes", "detector", "--report", page, "--worst", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 people on 3 images, boxes of each side's detector; 2000 paired resamples" in done.stdout
    first, second = done.stdout.splitlines()[:2]
    assert re.match(rf"A  fast: person-nano-320 \(.+\), {FAST_POSE} \(.+\)$", first)
    assert re.match(rf"B  paper: person-nano-320 \(.+\), {PAPER_POSE} \(.+\)$", second)
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert re.search(r"0\.\d{3} +0\.\d{3} +[+-]0\.\d{3} +-$", rows["AP"])
    assert "AP has no interval: too few of the images have people" in done.stdout
    assert "APm" in rows
    assert {"left_wrist", "found", "all"} <= rows.keys()
    text = page.read_text()
    assert_stands_alone(text, images=None)
    assert "Missed people" in text, "the box of nobody is found by neither"
    assert text.count("<svg") == 2
    assert all(f">{name}<" in text for name in ("annotated", "A: not found", "B: not found"))


def test_figures_are_those_of_an_evaluation_of_each(work: Path) -> None:
    told = json.loads(posewire(*of(work), "--compare", "fast", PAPER_POSE, "--boxes", "detector", "--json").stdout)
    alone = json.loads(posewire(*of(work), "--boxes", "detector", "--json").stdout)
    assert {name: figure["a"] for name, figure in told["ap"].items() if figure["a"] is not None} == pytest.approx(
        {name: value for name, value in alone["keypoints"].items() if value >= 0}
    )
    assert (told["images"], told["people"], told["a"]["name"], told["b"]["name"]) == (3, 3, "fast", PAPER_POSE)
    assert told["bootstrap"] == {"over": "images", "resamples": 2000, "confidence": 0.95, "seed": 0}
    assert told["found"]["a"] == pytest.approx(2 / 3)
    assert told["keypoints"]["all"]["count"] == 33
    assert told["keypoints"]["left_knee"]["oks"]["a"] is None, "no knee is annotated"
    assert 0 < told["milliseconds"]["a"]["q1"] <= told["milliseconds"]["a"]["median"] <= told["milliseconds"]["a"]["p95"]
    assert told["milliseconds"]["images"] == 3


def test_a_model_and_itself_are_equal(work: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    found = run(work, "fast", FAST_POSE, report=page)
    for figure in (*found.ap.values(), *found.of_people.values()):
        assert figure.difference in (0, None)
        assert (figure.low, figure.high) in {(0, 0), (None, None)}, "two images are too few for some"
    assert found.ap["AP"].a == found.ap["AP"].b
    assert found.milliseconds.images == 2, "without people there is nothing to time"
    assert "better than" not in page.read_text()


def test_a_file_is_the_model_that_the_manifest_has_of_it(work: Path) -> None:
    spec = STORE.manifest.get(FAST_POSE)
    found = run(work, str(STORE.path(spec)), FAST_POSE, pose_runtime="onnxruntime")
    assert found.models[0] == found.models[1]
    assert found.ap["AP"].difference == 0


def test_a_file_that_the_manifest_does_not_have_is_taken_for_one_like_the_default(work: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    spec = STORE.manifest.get(PAPER_POSE)
    model = onnx.load(STORE.path(spec))
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], (128, 96), strict=True):
        dimension.dim_value = size
    model.producer_name = "somebody else"
    onnx.save(model, tmp_path / "own.onnx")
    found = run(work, str(tmp_path / "own.onnx"), PAPER_POSE, pose_runtime="onnxruntime")
    assert found.models[0].startswith("own.onnx (")
    assert found.of_keypoint("oks", "all").difference == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("fast", "slow"), ["'slow'", "neither a pair (fast", "nor an ONNX file"]),
        (("fast", "person-nano-416"), ["person-nano-416 is a detector", "--boxes detector"]),
        (("fast", "litehrnet18-coco-256x192"), ["posewire models pull litehrnet18-coco-256x192"]),
        (("fast", __file__), ["test_compare.py cannot be opened"]),
        (("fast", str(STORE.path(STORE.manifest.get("person-nano-320")))), ["person-nano-320.onnx is a detector", "--boxes detector"]),
    ],
)
def test_what_is_no_model_to_compare_is_named(work: Path, names: tuple[str, str], words: list[str]) -> None:
    with pytest.raises(PosewireError) as caught:
        run(work, *names)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def crowds_only(content: dict[str, Any]) -> None:
    for row in content["annotations"]:
        row["iscrowd"] = 1


def other_keypoints(content: dict[str, Any]) -> None:
    content["categories"][0]["keypoints"] = ["head", "left_hand", "right_hand"]


def other_order(content: dict[str, Any]) -> None:
    names = list(STORE.manifest.default("pose").keypoints.names)
    content["categories"][0]["keypoints"] = [names[0], names[2], names[1], *names[3:]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (crowds_only, ["nobody in", "all of its annotations are crowds"]),
        (other_keypoints, ["has 3 keypoints, the pose model 17"]),
        (other_order, ["another order", "number 1 is right_eye, not left_eye"]),
        (lambda content: content["annotations"][0].update(keypoints=[1, 2, 2] * 16), ["annotation 1 has 48", "not 51"]),
        (lambda content: content["annotations"].clear(), ["nobody in", "person_keypoints"]),
        (lambda content: content["images"].append({"id": 9, "file_name": "away.jpg"}), ["away.jpg is named in", "is not there"]),
        (lambda content: content["annotations"][0].update(bbox=[900, 900, 5, 5]), ["1.jpg: boxes[0] lies outside"]),
    ],
)
def test_bad_annotations_are_named(work: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], words: list[str]) -> None:
    with pytest.raises(PosewireError) as caught:
        run(changed(work, tmp_path / "bad", change), "fast", "fast")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--url", "http://127.0.0.1:9"], "--url does not go with --compare"),
        (["--all"], "--all does not go with --compare"),
        (["--report", "/nowhere/page.html"], "/nowhere is not a folder"),
    ],
)
def test_options_that_contradict_are_one_line(work: Path, more: list[str], words: str) -> None:
    done = posewire(*of(work), "--compare", "fast", "paper", *more)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_category_of_its_own_and_rows_without_counts_are_read(work: Path, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"][0]["id"] = 7
        for row in content["annotations"]:
            row["category_id"] = 7
            del row["num_keypoints"], row["iscrowd"]

    plain, other = run(work, "fast", "paper"), run(changed(work, tmp_path / "other", change), "fast", "paper")
    assert (other.ap, other.of_people) == (plain.ap, plain.of_people)


def test_a_stop_in_the_middle_leaves_no_page(work: Path, tmp_path: Path) -> None:
    """SIGTERM while the bar of the resamples is on the terminal."""
    page = tmp_path / "page.html"
    terminal, theirs = os.openpty()
    command = [sys.executable, "-m", "posewire", *map(str, of(work)), "--compare", "fast", "paper", "--report", str(page)]
    with subprocess.Popen(command, env={"PATH": "", "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"resamples" not in shown:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):  # the terminal is closed when the process has ended
            while more := os.read(terminal, 4096):
                shown += more
        out, _ = process.communicate(timeout=120)
    os.close(terminal)
    assert process.returncode == 128 + signal.SIGTERM
    assert (b"Traceback" in shown, out) == (False, b"")
    assert list(tmp_path.iterdir()) == []


def case(image: Any, oks: tuple[float, float] | None, rows: tuple[Any, Any]) -> Case:
    return Case(image, None if oks is None else image.people[0], rows, oks)


def test_only_the_worst_cases_are_kept() -> None:
    points = np.zeros((17, 2), np.float32)
    person = Person(1, np.array(BOX, np.float32), 100.0, points, np.ones(17, np.float32), np.full(17, 0.05, np.float32))
    images = [AnnotatedImage(i, Path(f"{i}.jpg"), (person,)) for i in range(6)]
    sure, unsure = answer(1, [0.0] * 51, 0.9), answer(1, [0.0] * 51, 0.2)
    worst = WorstCases(2)
    for image, oks in zip(images, [(0.9, 0.8), (0.9, 0.1), (0.2, 0.9), (0.5, 0.5), (0.9, 0.3), (0.7, 0.6)], strict=True):
        worst.add_person(case(image, oks, (sure, sure)))
    worst.add_person(case(images[0], (0.0, 0.0), (None, None)))
    worst.add_person(case(images[1], (0.0, 0.8), (None, sure)))
    for image, row in zip(images, [unsure, sure, unsure], strict=False):
        worst.add_false(case(image, None, (None, row)), 1)
    assert [one.image.image_id for one in worst.of("a")] == [1, 4]
    assert [one.image.image_id for one in worst.of("b")] == [2]
    assert [one.image.image_id for one in worst.of("missed")] == [1, 0], "whom the other found comes first"
    assert worst.of("false_a") == []
    assert [one.image.image_id for one in worst.of("false_b")] == [1, 0]


@pytest.mark.skipif(not COCO_MINI_VAL.is_dir(), reason="needs shared/data/coco-mini-val")
def test_coco_s_images_are_compared(tmp_path: Path) -> None:
    content = json.loads((COCO_MINI_VAL / "person_keypoints.json").read_text())
    images = {row["image_id"] for row in content["annotations"] if row["num_keypoints"] and not row["iscrowd"]}
    kept = sorted(images)[:8]
    content["images"] = [row for row in content["images"] if row["id"] in kept]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(COCO_MINI_VAL / "images")
    found = run(tmp_path, "fast", "accurate", report=tmp_path / "page.html")
    assert found.images == 8
    assert found.ap["AP"].low is not None
    assert found.ap["AP"].high is not None
    assert found.ap["AP"].low <= (found.ap["AP"].difference or 0) <= found.ap["AP"].high
    assert found.milliseconds.ratio.median > 1, "four times the pixels"
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg") >= 3 * 4
