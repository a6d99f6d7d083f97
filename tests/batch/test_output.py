"""The results of a batch: tables, runs that are not mixed, and what is left of a run that did not end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from posewire.batch.items import Ended, Failure, Key, Outcome
from posewire.batch.output import Output
from posewire.batch.run import Run
from posewire.batch.sources import Source
from posewire.errors import PosewireError
from tests.batch.made import a_failure, a_result, a_run, an_outcome

RUN = a_run()


def write(address: object, *outcomes: Outcome, run: Run = RUN, ended: tuple[Ended, ...] = (), finish: bool = True) -> Output:
    """Open an output, write outcomes, and complete it."""
    output = Output(str(address), run)
    with output.begin(["sources"]):
        output.write(outcomes, ended)
        if finish:
            output.finish(1.5)
    return output


def done(address: object, run: Run = RUN) -> int:
    """How many images a further run would find done."""
    output = Output(str(address), run)
    with output.begin(["sources"]):
        return len(output.found.done)


def results(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted((folder / "results").iterdir())], ignore_index=True)


def test_a_row_has_the_size_and_the_people_of_an_image(tmp_path: Path) -> None:
    frame = Outcome(Key("/v.mp4", "v.mp4", 7), a_result(2, 64, 48), time_ms=233.33333)
    write(tmp_path, frame, an_outcome("nobody", 0))
    table = results(tmp_path)
    row = table.iloc[0]
    assert (row["source"], row["image"], row["frame"], row["time_ms"], row["width"], row["height"], row["people"]) == (
        *("/v.mp4", "v.mp4", 7, 233.333, 64, 48, 2),
    )
    assert np.stack(row["boxes"]).tolist() == [[0.5, 1.0, 20.0, 10.0]] * 2
    assert row["scores"].tolist() == [0.75, 0.75]
    keypoints = np.array([person.tolist() for person in map(np.stack, row["keypoints"])])
    assert keypoints.shape == (2, 2, 3)
    assert keypoints[0] == pytest.approx(np.array([[1.235, 2.0, 0.9123], [3.0, 4.5, 0.25]]))
    assert table.iloc[1][["people", "width"]].tolist() == [0, 40]
    assert pd.isna(table.iloc[1]["frame"])


def test_parquet_says_which_keypoints_and_models_it_is_of(tmp_path: Path) -> None:
    write(tmp_path, an_outcome("a"))
    [path] = (tmp_path / "results").iterdir()
    about = json.loads(pq.read_schema(path).metadata[b"posewire"])
    assert about == {"version": "1.2.3", "detector": "finder", "pose": "poser", "keypoints": ["nose", "tail"]}


def test_ndjson_has_the_same_columns(tmp_path: Path) -> None:
    write(tmp_path / "p", an_outcome("a"), a_failure("b"))
    write(tmp_path / "n", an_outcome("a"), a_failure("b"), run=a_run(form="ndjson"))
    for table in ("results", "failures"):
        [parquet], [ndjson] = (tmp_path / "p" / table).iterdir(), (tmp_path / "n" / table).iterdir()
        [row] = map(json.loads, ndjson.read_text().splitlines())
        assert list(row) == pq.read_schema(parquet).names
        [other] = pq.read_table(parquet).to_pylist()
        assert {k: v for k, v in row.items() if k != "keypoints"} == {k: v for k, v in other.items() if k != "keypoints"}


def test_failures_have_a_table_of_their_own(tmp_path: Path) -> None:
    output = write(tmp_path, an_outcome("a"), a_failure("b"), a_failure("c"))
    [path] = (tmp_path / "failures").iterdir()
    table = pd.read_parquet(path)
    assert table["image"].tolist() == ["b", "c"]
    assert table["reason"].unique().tolist() == ["bad-picture"]
    assert (output.images, output.people, output.failures) == (1, 1, 2)
    assert results(tmp_path)["image"].tolist() == ["a"]


def test_a_shard_is_named_by_its_content(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write(tmp_path / folder, an_outcome("a"), an_outcome("b"))
    assert [p.name for p in (tmp_path / "x/results").iterdir()] == [p.name for p in (tmp_path / "y/results").iterdir()]


def test_the_manifest_lists_the_shards_and_appears_at_the_end(tmp_path: Path) -> None:
    write(tmp_path, an_outcome("a", 3), finish=False)
    assert not (tmp_path / "manifest.json").exists()
    write(tmp_path, an_outcome("b"), a_failure("c"))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["images"], manifest["people"], manifest["failures"], manifest["run"]["pose_sha256"]) == (2, 4, 1, "b" * 64)
    for shard in manifest["results"] + manifest["failed"]:
        assert (tmp_path / shard["name"]).stat().st_size == shard["bytes"]
    assert [shard["images"] for shard in manifest["results"]] == [1, 1]


@pytest.mark.parametrize(
    "change", [{"min_detection_score": 0.5}, {"pose_sha256": "c" * 64}, {"version": "1.2.4"}, {"fps": 2.0}, {"form": "ndjson"}]
)
def test_a_run_with_other_parameters_is_not_mixed_in(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path, an_outcome("a"))
    [name] = change
    with pytest.raises(PosewireError, match=name):
        write(tmp_path, an_outcome("b"), run=a_run(**change))
    assert results(tmp_path)["image"].tolist() == ["a"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    (tmp_path / ".posewire-of-another-program.jpg").touch()
    with pytest.raises(PosewireError, match=r"letter\.txt"):
        write(tmp_path, an_outcome("a"))
    assert {path.name for path in tmp_path.iterdir()} <= {"letter.txt", ".posewire-of-another-program.jpg", ".lock"}


def test_a_file_among_the_shards_that_is_none_is_named(tmp_path: Path) -> None:
    write(tmp_path, an_outcome("a"))
    (tmp_path / "results" / "mine.parquet").touch()
    with pytest.raises(PosewireError, match=r"mine\.parquet"):
        write(tmp_path, an_outcome("b"))


def test_results_without_a_run_are_not_guessed_at(tmp_path: Path) -> None:
    write(tmp_path, an_outcome("a"))
    (tmp_path / "run.json").write_text('{"run": {')
    with pytest.raises(PosewireError, match="damaged or missing"):
        write(tmp_path, an_outcome("b"))


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_part_of_a_shard_is_removed_and_its_images_are_not_done(tmp_path: Path, keep: int) -> None:
    write(tmp_path, an_outcome("a"), finish=False)
    write(tmp_path, an_outcome("b"), finish=False)
    path = sorted((tmp_path / "results").iterdir())[1]
    path.write_bytes(path.read_bytes()[:keep])
    output = write(tmp_path, an_outcome("b"))
    assert output.found.removed == [f"results/{path.name}"]
    assert results(tmp_path)["image"].tolist() == ["a", "b"]


def test_a_shard_with_an_image_that_another_shard_has_is_removed(tmp_path: Path) -> None:
    for folder, images in (("x", "ab"), ("y", "bc")):  # two machines that wrote to one store at the same time
        write(tmp_path / folder, *map(an_outcome, images), finish=False)
    [path] = (tmp_path / "y/results").iterdir()
    path.rename(tmp_path / "x/results" / path.name)
    output = write(tmp_path / "x", an_outcome("c"))
    assert sorted(results(tmp_path / "x")["image"]) in (["a", "b", "c"], ["b", "c"])
    assert len(output.found.removed) == 1


def test_another_process_is_kept_out(tmp_path: Path) -> None:
    with Output(str(tmp_path), RUN).begin([]), pytest.raises(PosewireError, match="another process"), Output(str(tmp_path), RUN).begin([]):
        pass


def test_a_source_is_complete_if_all_its_images_are_there_and_its_size_is_the_same(tmp_path: Path) -> None:
    write(tmp_path, an_outcome("a"), a_failure("b"), ended=(Ended("/a.tar", 500, 2, 2, 0.0),), finish=False)

    def complete(size: int) -> bool:
        output = Output(str(tmp_path), RUN)
        with output.begin([]):
            return output.is_complete(Source("/a.tar", "tar", size))

    assert complete(500)
    assert not complete(501)
    for path in (tmp_path / "failures").iterdir():  # so that what failed is tried again
        path.unlink()
    assert not complete(500)
    assert done(tmp_path) == 1


def test_a_single_file_has_all_results_and_another_one_the_failures(tmp_path: Path) -> None:
    out = tmp_path / "new" / "people.parquet"
    write(out, an_outcome("a"), finish=False)
    assert not out.exists()
    write(out, an_outcome("b"), a_failure("c"))
    assert {path.name for path in out.parent.iterdir()} == {"people.parquet", "people.failures.parquet"}
    assert pd.read_parquet(out)["image"].tolist() == ["a", "b"]
    assert pd.read_parquet(out.with_name("people.failures.parquet"))["image"].tolist() == ["c"]
    assert done(out) == 3


def test_images_are_added_to_a_single_file_later(tmp_path: Path) -> None:
    out = tmp_path / "people.parquet"
    write(out, an_outcome("a"))
    output = write(out, an_outcome("b"))
    assert (output.images, output.failures) == (2, 0)
    assert pd.read_parquet(out)["image"].tolist() == ["a", "b"]
    with pytest.raises(PosewireError, match="max_people"):
        write(out, an_outcome("c"), run=a_run(max_people=1))


def test_a_single_file_without_an_image_is_a_table_without_a_row(tmp_path: Path) -> None:
    write(tmp_path / "people.parquet", a_failure("a"))
    assert pd.read_parquet(tmp_path / "people.parquet").shape == (0, 10)


@pytest.mark.parametrize("content", [b"", b"no table"])
def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "people.parquet"
    out.write_bytes(content)
    with pytest.raises(PosewireError, match="give another name"):
        write(out, an_outcome("a"))
    assert out.read_bytes() == content
    pd.DataFrame({"a": [1]}).to_parquet(out)
    with pytest.raises(PosewireError, match="holds no run"):
        write(out, an_outcome("a"))


def test_results_can_lie_in_a_store() -> None:
    store = fsspec.filesystem("memory")
    write("memory://batch-out", an_outcome("a"), finish=False)
    write("memory://batch-out", an_outcome("b"), a_failure("c"))
    assert done("memory://batch-out") == 3
    rows = [pd.read_parquet(store.open(name)) for name in store.ls("/batch-out/results", detail=False)]
    assert sorted(pd.concat(rows)["image"]) == ["a", "b"]
    write("memory://batch-out/people.parquet", an_outcome("a"))
    assert pd.read_parquet(store.open("/batch-out/people.parquet"))["image"].tolist() == ["a"]
    assert not store.exists("/batch-out/people.parquet.parts")
    store.rm("/batch-out", recursive=True)


def test_a_place_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PosewireError, match="cannot be"):
        write(tmp_path / "file" / "out", an_outcome("a"))
    with pytest.raises(PosewireError, match="nosuch"):
        write("nosuch://bucket/out", an_outcome("a"))


def test_a_failure_with_a_name_that_is_no_utf_8_can_be_written(tmp_path: Path) -> None:
    write(tmp_path, Outcome(Key("/a.tar", "a"), Failure("bad-archive", "caf\udce9")))
    [path] = (tmp_path / "failures").iterdir()
    assert pd.read_parquet(path)["message"].tolist() == ["caf\\xe9"]


# Writes a batch of two shards, opens it again and goes on; prints the numbers of threads before and after.
THREADS = """
import sys
import psutil
from posewire.batch.tables import import_parquet
from tests.batch.made import an_outcome
from tests.batch.test_output import done, write

import_parquet()
before = psutil.Process().num_threads()
for image in ("a", "b"):
    write(sys.argv[1], an_outcome(image), finish=False)
assert done(sys.argv[1]) == 2
print(before, psutil.Process().num_threads())
"""


@pytest.mark.parametrize("name", ["out", "p.parquet"])
def test_tables_are_read_without_threads_of_arrow_which_may_abort_a_process_that_ends(tmp_path: Path, name: str) -> None:
    ran = subprocess.run([sys.executable, "-c", THREADS, str(tmp_path / name)], capture_output=True, text=True, check=True)
    before, after = ran.stdout.split()
    assert after == before
