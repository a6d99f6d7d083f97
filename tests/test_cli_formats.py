"""`posewire predict --format`: on standard output, in a file, and in a file per image."""

import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from posewire.cli.predict_options import PredictOptions, Tracking, chosen_format
from posewire.cli.results_output import check_output, image_names
from posewire.errors import BadParameter, NotInstalled, PosewireError
from posewire.formats.registry import FORMATS
from tests.sample_images import ASTRONAUT, encode, landscape
from tests.test_cli import posewire
from tests.test_cli_video import names, start
from tests.videos import walk, write_video


def options(form: str | None = None, *, as_json: bool = False, normalized: bool = False, out: Path | None = None) -> PredictOptions:
    return PredictOptions(chosen_format(form, as_json=as_json), normalized, out, None, Tracking(True, True, 5))


def check(form: str, paths: list[Path], **chosen: Any) -> None:
    check_output(next(found for found in FORMATS.values() if found.name == form), paths, options(form, **chosen))


def test_images_and_a_video_become_one_table(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(ASTRONAUT.read_bytes())
    (tmp_path / "b.png").write_bytes(encode(landscape(), ".png"))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    write_video(tmp_path / "walk.mp4", walk(3))
    run = posewire("predict", tmp_path, "--format", "csv", "--min-keypoint-score", "0.1", min_detection_score="0.5", workers="0")
    assert run.returncode == 1  # of the broken one
    assert "broken.jpg" in run.stderr
    frame = pd.read_csv(io.StringIO(run.stdout))
    assert frame["image"].unique().tolist() == ["a.jpg", "walk.mp4"]
    assert frame["score"].min() >= 0.1
    video = frame[frame["image"] == "walk.mp4"]
    assert video["frame"].unique().tolist() == [0, 1, 2]
    assert video["time_ms"].unique().tolist() == pytest.approx([0, 100, 200], abs=1)
    assert video["track_id"].unique().tolist() == [1]


def test_a_file_of_the_format_is_written_whole_and_lines_to_read_are_printed(tmp_path: Path) -> None:
    out = tmp_path / "new" / "people.parquet"
    run = posewire("predict", ASTRONAUT, "--format", "parquet", "--out", out, "--normalized", max_people="1", workers="0")
    assert run.returncode == 0, run.stderr
    assert "astronaut.jpg: 512x512, 1 person" in run.stdout
    assert names(out.parent) == {"people.parquet"}
    frame = pd.read_parquet(out)
    assert frame["image"].unique().tolist() == ["astronaut.jpg"]
    assert frame["x"].between(0, 1).all()


def test_yolo_has_a_text_per_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(ASTRONAUT.read_bytes())
    (tmp_path / "b.png").write_bytes(encode(landscape(), ".png"))
    labels = tmp_path / "labels"
    assert posewire("predict", tmp_path, "--format", "yolo", "--out", labels, min_detection_score="0.5", workers="0").returncode == 0
    assert names(labels) == {"a.txt", "b.txt"}
    assert len((labels / "a.txt").read_text().split()) == 5 + 3 * 17
    assert (labels / "b.txt").read_text() == ""


def test_a_video_for_openpose_has_a_file_per_frame(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = posewire(
        "predict", write_video(tmp_path / "walk.mp4", walk(3)), "--format", "openpose", "--out", out, min_detection_score="0.5", workers="0"
    )
    assert run.returncode == 0, run.stderr
    assert names(out) == {f"walk_{i:012}_keypoints.json" for i in range(3)}
    [person] = json.loads((out / "walk_000000000002_keypoints.json").read_text())["people"]
    assert person["person_id"] == [1]
    assert len(person["pose_keypoints_2d"]) == 54


def test_ctrl_c_leaves_a_whole_table_of_a_name_of_its_own(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for i in range(300):
        (images / f"{i:03}.jpg").symlink_to(ASTRONAUT)
    process = start(images, "--format", "parquet", "--out", out / "people.parquet")
    assert process.stdout is not None
    process.stdout.readline()  # standard output is a pipe: some kilobytes of lines come together
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert names(out) == {"people.partial.parquet"}
    assert 0 < pd.read_parquet(out / "people.partial.parquet")["image"].nunique() < 300


def test_a_file_that_cannot_be_written_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    process = start(ASTRONAUT, "--format", "csv", "--out", tmp_path / "people.csv", limit_bytes=100)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.splitlines() == [f"posewire: {tmp_path}/people.csv cannot be written: File too large"]
    assert names(tmp_path) == set()


def test_what_cannot_be_written_is_told_before_a_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, video = Path("a.jpg"), Path("x/b.jpg"), Path("walk.mp4")
    for form in ("yolo", "openpose", "roboflow"):
        check(form, [a])
        with pytest.raises(PosewireError, match=f"{form} is one file per image; name a folder for them with --out"):
            check(form, [a, b])
    with pytest.raises(PosewireError, match=r"a\.jpg and y/A\.png would both be A\.txt"):
        check("yolo", [a, b, Path("y/A.png")], out=tmp_path)
    for form in ("coco", "yolo", "roboflow", "labelstudio", "cvat"):
        with pytest.raises(PosewireError, match=f"--format {form} is for images"):
            check(form, [video], out=tmp_path)
    with pytest.raises(BadParameter, match="coordinates of cvat are pixels"):
        check("cvat", [a], normalized=True)
    with pytest.raises(PosewireError, match=r"files of --format csv are \*\.csv"):
        check("csv", [a], out=tmp_path / "people.parquet")
    with pytest.raises(PosewireError, match="--json and --format csv contradict each other"):
        options("csv", as_json=True)
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what `import` does where it is not installed
    with pytest.raises(NotInstalled, match=r"posewire\[tables\]"):
        check("parquet", [a], out=tmp_path / "people.parquet")


def test_parquet_is_not_for_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(PosewireError, match="name a file with --out"):
        check("parquet", [Path("a.jpg")])
    check("parquet", [Path("a.jpg")], out=tmp_path / "people.parquet")
    check("csv", [Path("a.jpg")])


def test_a_result_never_replaces_its_source(tmp_path: Path) -> None:
    source = tmp_path / "odd.csv"  # an image whose name says otherwise
    source.write_bytes(ASTRONAUT.read_bytes())
    with pytest.raises(PosewireError, match=r"odd\.csv would be replaced by its own results"):
        check("csv", [source], out=source)
    (tmp_path / "link.csv").symlink_to(source)
    with pytest.raises(PosewireError, match="would be replaced"):
        check("csv", [source], out=tmp_path / "link.csv")
    text = tmp_path / "image.txt"
    text.write_bytes(ASTRONAUT.read_bytes())
    with pytest.raises(PosewireError, match=r"image\.txt would be replaced"):
        check("yolo", [text], out=tmp_path)


def test_images_of_one_name_are_called_by_their_paths() -> None:
    paths = [Path(name) for name in ("a/1.jpg", "b/1.jpg", "c/2.jpg", "d/\udcff.jpg")]
    assert list(image_names(paths).values()) == ["a/1.jpg", "b/1.jpg", "2.jpg", "\\xff.jpg"]
