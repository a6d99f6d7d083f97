"""The images of tar files, Parquet files and videos, also of damaged ones."""

import gzip
import tracemalloc
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from posewire.batch.items import Failure, Item, Key, Unread
from posewire.batch.reading import load, read_items
from posewire.batch.sources import Source
from posewire.types import Frame
from tests.batch.made import OPTIONS, failure_of, names_of, read, write_parquet, write_tar
from tests.videos import walk, write_video

THREE = {"in/a.jpg": b"first", "in/b.png": b"second", "in/c.webp": b"third"}


def test_the_images_of_a_tar_have_webdatasets_keys(tmp_path: Path) -> None:
    members = {"0/a.left.jpg": b"1", "0/a.json": b"{}", "./b.png": b"2", "c.txt": b"", ".jpg": b"3", "._d.jpg": b"resource fork"}
    items, [ended] = read(write_tar(tmp_path / "a.tar", members))
    assert names_of(items) == ["0/a", "b", ".jpg"]
    assert [item.content for item in items] == [b"1", b"2", b"3"]
    assert items[0].key == Key(str(tmp_path / "a.tar"), "0/a")
    assert (ended.images, ended.new, ended.bytes) == (3, 3, (tmp_path / "a.tar").stat().st_size)


@pytest.mark.parametrize(("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")])
def test_a_compressed_tar_is_read(tmp_path: Path, name: str, mode: str) -> None:
    items, _ = read(write_tar(tmp_path / name, THREE, mode))
    assert [item.content for item in items] == [b"first", b"second", b"third"]


def test_a_key_that_is_there_twice_fails(tmp_path: Path) -> None:
    members = [("a.jpg", b"1"), ("a.png", b"2"), ("a.jpg", b"3"), ("a.jpg", b"4"), ("b.jpg", b"5")]
    items, [ended] = read(write_tar(tmp_path / "a.tar", members))
    assert names_of(items) == ["a", "a.png", "a.jpg", "a.jpg (2)", "b"]
    assert [failure_of(item).reason for item in items[1:4]] == ["same-key-twice"] * 3
    assert ended.images == 5


def test_what_is_done_is_left_out_and_its_weight_is_added_to_the_next(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", THREE)
    all_items, _ = read(path)
    items, [ended] = read(path, done=[all_items[0].key.digest(), all_items[2].key.digest()])
    assert names_of(items) == ["in/b"]
    assert (ended.images, ended.new) == (3, 1)
    assert items[0].weight + ended.weight == path.stat().st_size


def test_a_tar_that_is_cut_anywhere_fails_after_the_images_that_are_whole(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", {f"{i}.jpg": bytes([i]) * 700 for i in range(3)}).read_bytes()
    images_end = 3 * (512 + 1024)
    for cut in [1, 511, 512, 900, 1536, 1537, 2048, 2100, 3072, 4000, images_end - 1, images_end]:
        path = tmp_path / f"{cut}.tar"
        path.write_bytes(whole[:cut])
        items, [ended] = read(path)
        good = [item for item in items if not isinstance(item.content, Failure)]
        assert names_of(good) == [str(i) for i in range(len(good))], cut
        assert len(good) == sum(cut >= 1536 * i + 512 + 700 for i in range(3)), cut
        assert failure_of(items[-1]).reason == "bad-archive", cut
        assert ended.images == len(items)
    (tmp_path / "ok.tar").write_bytes(whole[: images_end + 512])
    assert names_of(read(tmp_path / "ok.tar")[0]) == ["0", "1", "2"]


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    content = bytearray(write_tar(tmp_path / "a.tar", THREE).read_bytes())
    content[1024 + 150] ^= 0xFF  # in the checksum of the second header
    (tmp_path / "a.tar").write_bytes(content)
    items, _ = read(tmp_path / "a.tar")
    assert names_of(items) == ["in/a", ""]
    assert "damaged" in failure_of(items[1]).message


@pytest.mark.parametrize("content", [b"", b"no tar", b"\xff" * 2000])
def test_what_is_no_tar_fails(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    [item], _ = read(tmp_path / "a.tar")
    assert failure_of(item).reason == "bad-archive"


def test_a_damaged_compression_fails_after_the_images_before(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).bytes(60_000)
    path = write_tar(tmp_path / "a.tar.gz", {f"{i}.jpg": noise[i:] for i in range(3)}, "w:gz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    items, _ = read(path)
    assert names_of(items) == ["0", ""]
    assert failure_of(items[1]).reason == "bad-archive"
    path.write_bytes(gzip.compress(b"x" * 100_000)[:50])
    assert failure_of(read(path)[0][0]).reason == "bad-archive"


def test_images_with_too_many_bytes_fail_and_are_not_read(tmp_path: Path) -> None:
    options = replace(OPTIONS, max_bytes=10)
    big, small = b"x" * 11, b"x" * 10
    items, _ = read(write_tar(tmp_path / "a.tar", {"a.jpg": big, "b.jpg": small}), options)
    assert failure_of(items[0]).reason == "too-large"
    assert items[1].content == small
    items, _ = read(write_parquet(tmp_path / "a.parquet", {"image": [big, small]}), options)
    assert failure_of(items[0]).reason == "too-large"
    (tmp_path / "a.jpg").write_bytes(big)
    assert isinstance(load(Unread(str(tmp_path / "a.jpg"), 0), 10), Failure)
    assert load(Unread(str(tmp_path / "a.jpg"), 11), 11) == big


def test_the_memory_for_a_tar_does_not_grow_with_its_members(tmp_path: Path) -> None:
    def peak(members: int) -> int:
        path = write_tar(tmp_path / f"{members}.tar", ((f"{i:06}.jpg", b"x") for i in range(members)))
        source = Source(str(path), "tar", path.stat().st_size)
        tracemalloc.start()
        assert sum(isinstance(one, Item) for one in read_items(source, OPTIONS, ())) == members
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(1500), peak(6000)
    assert many - few < 4500 * 250  # the keys, to find one that is there twice; `tarfile` takes more than 1,000 bytes for a member


def test_a_column_of_bytes_is_found(tmp_path: Path) -> None:
    items, [ended] = read(write_parquet(tmp_path / "a.parquet", {"label": [1, 2], "image": [b"first", b"second"]}))
    assert names_of(items) == ["0", "1"]
    assert [item.content for item in items] == [b"first", b"second"]
    assert ended.images == 2
    assert sum(item.weight for item in items) + ended.weight == pytest.approx((tmp_path / "a.parquet").stat().st_size)


def test_a_column_of_structs_as_of_hugging_face_is_read(tmp_path: Path) -> None:
    rows = [{"bytes": b"first", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}, None]
    items, _ = read(write_parquet(tmp_path / "a.parquet", {"image": list(rows)}))
    assert items[0].content == b"first"
    assert [failure_of(item).reason for item in items[1:]] == ["no-bytes", "no-bytes"]


def test_a_column_can_be_chosen(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"left": [b"1"], "right": [b"2"], "label": [3]})
    [item], _ = read(path)
    assert failure_of(item).reason == "no-column"
    assert "left, right" in failure_of(item).message
    assert read(path, replace(OPTIONS, column="right"))[0][0].content == b"2"
    for absent, word in (("middle", "does not exist"), ("label", "holds no bytes")):
        [item], _ = read(path, replace(OPTIONS, column=absent))
        assert word in failure_of(item).message


def test_a_damaged_parquet_file_fails(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"image": [b"x" * 100_000]})
    path.write_bytes(path.read_bytes()[:-10])
    [item], _ = read(path)
    assert failure_of(item).reason == "bad-archive"


def test_every_frame_of_a_video_is_an_image(tmp_path: Path) -> None:
    items, [ended] = read(write_video(tmp_path / "walk.mp4", walk(5, 64)))
    assert [item.key.frame for item in items] == [0, 1, 2, 3, 4]
    assert {item.key.image for item in items} == {"walk.mp4"}
    assert [item.time_ms for item in items] == pytest.approx([0, 100, 200, 300, 400])
    assert all(isinstance(item.content, Frame) for item in items)
    assert ended.images == 5


def test_frames_can_be_taken_at_a_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "walk.mp4", walk(10, 64))
    items, _ = read(path, replace(OPTIONS, fps=5.0))
    assert [item.key.frame for item in items] == [0, 2, 4, 6, 8]
    assert len(read(path, replace(OPTIONS, fps=1000.0))[0]) == 10


def test_a_video_that_breaks_in_the_middle_fails_after_its_first_frames(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    content = write_video(path, walk(40, 128)).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    items, _ = read(path)
    assert failure_of(items[-1]).reason == "bad-video"
    assert items[-1].key == Key(str(path), "broken.mp4")


def test_what_is_no_video_fails(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    [item], _ = read(tmp_path / "a.mp4")
    assert failure_of(item).reason == "bad-video"


@pytest.mark.parametrize("name", ["gone.tar", "gone.parquet", "gone.mp4"])
def test_a_source_that_has_gone_fails(tmp_path: Path, name: str) -> None:
    kinds = {"gone.tar": "tar", "gone.parquet": "parquet", "gone.mp4": "video"}
    item, _ = read_items(Source(str(tmp_path / name), kinds[name], 10), OPTIONS, ())  # type: ignore[arg-type]
    assert isinstance(item, Item)
    assert failure_of(item) == Failure("unreadable", "cannot be read: No such file or directory")


def test_sources_of_a_store_are_read(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for path in (
        write_tar(tmp_path / "a.tar", THREE),
        write_parquet(tmp_path / "a.parquet", {"i": [b"row"]}),
        write_video(tmp_path / "a.mp4", walk(2, 64)),
    ):
        store.pipe_file(f"/batch-reading/{path.name}", path.read_bytes())
    found = []
    for name, kind in (("a.tar", "tar"), ("a.parquet", "parquet"), ("a.mp4", "video")):
        reads = list(read_items(Source(f"memory:///batch-reading/{name}", kind, 5000), OPTIONS, ()))  # type: ignore[arg-type]
        found.append(sum(isinstance(one, Item) and not isinstance(one.content, Failure) for one in reads))
    assert found == [3, 1, 2]
    assert load(Unread("memory:///batch-reading/a.tar", 0), 10**6) == (tmp_path / "a.tar").read_bytes()
    assert isinstance(load(Unread("memory:///batch-reading/gone.jpg", 0), 10), Failure)
    store.rm("/batch-reading", recursive=True)
