"""From arguments to the files of a batch."""

import io
import os
import sys
from pathlib import Path

import fsspec
import pytest

from posewire.batch.sources import Source, find_sources
from posewire.errors import NotInstalled, PosewireError


def addresses(*arguments: str | Path, stdin: bytes = b"", exclude: tuple[str, ...] = ()) -> list[str]:
    return [source.address for source in find_sources(map(str, arguments), io.BytesIO(stdin), exclude)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in (
        "photos/b.jpg",
        "photos/a.PNG",
        "photos/deep/er/c.webp",
        "photos/notes.txt",
        "photos/d.tar",
        "photos/e.parquet",
        "photos/f.mp4",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def test_a_folder_gives_what_is_in_it_and_in_all_folders_below(photos: Path) -> None:
    sources = find_sources([str(photos)], io.BytesIO())
    assert [source.address.removeprefix(f"{photos}/") for source in sources] == [
        "a.PNG", "b.jpg", "d.tar", "deep/er/c.webp", "e.parquet", "f.mp4"
    ]  # fmt: skip
    assert [source.kind for source in sources] == ["image", "image", "tar", "image", "parquet", "video"]
    assert sources[1] == Source(str(photos / "b.jpg"), "image", len("photos/b.jpg"))


def test_a_file_that_is_named_twice_is_read_once(photos: Path) -> None:
    assert addresses(photos / "b.jpg", photos / "*.jpg", photos / "deep") == [str(photos / "b.jpg"), str(photos / "deep/er/c.webp")]


def test_patterns_reach_into_folders(photos: Path) -> None:
    assert addresses(photos / "**/*.webp") == [str(photos / "deep/er/c.webp")]


def test_a_relative_path_is_the_same_source_as_the_whole_path(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert addresses("b.jpg", "deep/../b.jpg", photos / "b.jpg", f"file://{photos}/b.jpg") == [str(photos / "b.jpg")]


def test_lists_have_a_line_for_each_source(photos: Path) -> None:
    lines = f"{photos}/b.jpg\n\n{photos}/deep\r\n{photos}/gone.jpg\n".encode()
    (photos / "list.txt").write_bytes(lines)
    wanted = [str(photos / name) for name in ("b.jpg", "deep/er/c.webp", "gone.jpg")]
    assert addresses(f"@{photos}/list.txt") == wanted
    assert addresses("-", stdin=lines) == wanted


def test_results_in_a_folder_of_sources_are_no_source(photos: Path) -> None:
    (photos / "out").mkdir()
    (photos / "out" / "part.parquet").touch()
    assert str(photos / "out/part.parquet") not in addresses(photos, exclude=(str(photos / "out"),))
    assert addresses(photos / "out", exclude=(str(photos / "out"),)) == []


@pytest.mark.skipif(sys.platform != "linux", reason="its file systems take any bytes as names")
def test_a_name_that_is_no_utf_8_has_escapes_in_results(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(path, "wb") as file:  # noqa: PTH123 - bytes
        file.write(b"image")
    [source] = find_sources([str(tmp_path)], io.BytesIO())
    assert source.image == "caf\\xe9.jpg"
    assert source.key.source == f"{tmp_path}/caf\\xe9.jpg"
    assert os.fsencode(source.address) == path


@pytest.mark.parametrize(
    "argument", ["", "nothing.jpg", "none*.jpg", "@nothing.txt", "-", "EMPTY", "memory://nowhere/x.jpg", "memory://nowhere/*.jpg"]
)
def test_an_argument_that_names_nothing_is_an_error(tmp_path: Path, argument: str) -> None:
    (tmp_path / "EMPTY").mkdir()
    with pytest.raises(PosewireError):
        addresses(str(tmp_path / argument) if argument == "EMPTY" else argument)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(photos: Path) -> None:
    (photos / "deep").chmod(0)
    with pytest.raises(PosewireError, match="deep cannot be read"):
        addresses(photos)


def test_folders_and_patterns_of_a_store_are_sources() -> None:
    store = fsspec.filesystem("memory")
    for name in ("/batch-sources/a.jpg", "/batch-sources/deep/b.tar", "/batch-sources/c.txt"):
        store.pipe_file(name, b"12345")
    found = find_sources(["memory://batch-sources"], io.BytesIO())
    assert found == [Source("memory:///batch-sources/a.jpg", "image", 5), Source("memory:///batch-sources/deep/b.tar", "tar", 5)]
    assert addresses("memory://batch-sources/*.jpg") == ["memory:///batch-sources/a.jpg"]
    assert addresses("memory://batch-sources/a.jpg") == ["memory://batch-sources/a.jpg"]
    store.rm("/batch-sources", recursive=True)


def test_an_address_that_fsspec_does_not_know_is_an_error() -> None:
    with pytest.raises(PosewireError, match="nosuch"):
        addresses("nosuch://bucket/a.jpg")


def test_without_fsspec_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(NotInstalled, match=r"posewire\[batch\]"):
        addresses("s3://bucket/a.jpg")
