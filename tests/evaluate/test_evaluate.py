"""`posewire evaluate` as a person runs it, here and against a service."""

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.evaluate.made import annotation, make_set
from tests.server_process import serve
from tests.test_cli import posewire as run_posewire


def posewire(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_posewire(*arguments, max_batch="1")  # so that the warm-up is short


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`set`: two images of the astronaut and one of nobody; `other`: two more, to fit on."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_set(folder / "set", [annotation(1, 1), annotation(2, 2)], people=2)
    make_set(folder / "other", [annotation(1, 11), annotation(2, 12)], people=2, first_id=11)
    return folder


def of(folder: Path) -> list[str | Path]:
    return ["evaluate", "--images", folder / "images", "--annotations", folder / "annotations.json"]


def test_every_way_to_run_is_scored_and_one_is_told_in_detail(work: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = posewire(*of(work / "set"), "--json", "--all", "--html", page)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["images"], told["people"], told["boxes_from"], told["flip_test"], told["found"]) == (3, 2, "gt", False, 1)
    ways = {(run["boxes_from"], run["flip_test"]) for run in told["runs"]}
    assert ways == {("gt", False), ("gt", True), ("detector", False), ("detector", True)}
    assert len(told["runs"]) == 4
    assert told["keypoints"] == told["runs"][0]["keypoints"]
    assert [("boxes" in run) == (run["boxes_from"] == "detector") for run in told["runs"]] == [True] * 4
    assert told["joints"]["all"]["joints"] == 22
    assert told["joints"]["nose"]["right"] == 1, "the astronaut's nose is easy"
    assert sum(b["count"] for b in told["calibration"]["bins"]) == 22
    assert_stands_alone(page.read_text())


def test_a_detector_s_scores_are_judged_too(work: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = posewire(*of(work / "set"), "--json", "--boxes", "detector", "--html", page)
    assert (done.returncode, done.stderr) == (0, "")
    bins = json.loads(done.stdout)["boxes_calibration"]["bins"]
    assert sum(round(b["right"] * b["count"]) for b in bins) == 2, "both people are found, once each"
    assert page.read_text().count("<svg") == 2
    assert "boxes of score" in page.read_text()


def assert_stands_alone(page: str, images: int | None = 4) -> None:
    """Well-formed as far as it goes, without scripts, and nothing is fetched from anywhere; None: any number of images."""
    parser = _Tags()
    parser.feed(page)
    assert parser.open == []
    assert "script" not in parser.seen
    assert {"table", "svg", "img"} <= parser.seen
    assert all(source.startswith("data:image/jpeg;base64,") for source in parser.sources)
    assert images is None or len(parser.sources) == images  # two images with people, twice each
    assert not re.search(r"url\(|@import|https?://", page)


class _Tags(HTMLParser):
    """Tags that are open, all that were there, and what they fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_service_is_scored_as_the_engine_is(work: Path) -> None:
    with serve(max_batch="1") as server:
        for boxes in ("gt", "detector"):
            here, there = (
                json.loads(posewire(*of(work / "set"), "--json", "--boxes", boxes, *more).stdout) for more in ([], ["--url", server.url])
            )
            assert there["flip_test"] is None
            assert there["keypoints"] == pytest.approx(here["keypoints"], abs=0.01)
            assert there["joints"]["all"] == pytest.approx(here["joints"]["all"], abs=0.01)
            if boxes == "detector":
                assert there["boxes"]["AP50"] == pytest.approx(here["boxes"]["AP50"], abs=0.01)


def test_a_curve_is_fitted_on_other_images_only(work: Path) -> None:
    fitted = posewire(*of(work / "set"), "--fit-images", work / "other/images", "--fit-annotations", work / "other/annotations.json")
    assert fitted.returncode == 0, fitted.stderr
    ece = float(re.findall(r"but for (\d\.\d+) \(ECE\)", fitted.stdout)[0])
    after = float(re.findall(r"with the curve sigmoid\(.*\): ECE (\d\.\d+)", fitted.stdout)[0])
    assert after < ece, "the other images are the same astronaut"
    same = posewire(*of(work / "set"), "--fit-images", work / "set/images", "--fit-annotations", work / "set/annotations.json")
    assert same.returncode == 1
    assert "fit on others" in same.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--html", "/nowhere/page.html"], ["/nowhere", "not a folder"]),
        (["--fit-images", "."], ["--fit-annotations", "both"]),
        (["--url", "http://127.0.0.1:9"], ["http://127.0.0.1:9", "does not answer"]),
        (["--url", "no address"], ["no address", "does not answer"]),
    ],
)
def test_what_cannot_be_done_is_one_line(work: Path, more: list[str], words: list[str]) -> None:
    done = posewire(*of(work / "set"), *more)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    make_set(tmp_path, [annotation(1, 1)])
    (tmp_path / "images" / "1.jpg").write_bytes(b"no image")
    done = posewire(*of(tmp_path))
    assert done.returncode == 1
    assert "1.jpg" in done.stderr
    assert len(done.stderr.splitlines()) == 1
