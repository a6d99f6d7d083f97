"""Files are written whole with the permissions of the umask, and read only if they are plain."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from posewire.errors import PosewireError
from posewire.files import UnreadableFile, read_plain, write_atomically


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    write_atomically(tmp_path / "a", b"new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_name_may_be_as_long_as_the_disk_allows(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), b"new")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_a_link_is_replaced_and_what_it_names_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "a").symlink_to(tmp_path / "other")
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "other").read_bytes() == b"other"
    assert ((tmp_path / "a").is_symlink(), (tmp_path / "a").read_bytes()) == (False, b"new")


def test_what_cannot_be_replaced_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(PosewireError, match="cannot be written"):
        write_atomically(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    paths = {"a pipe": tmp_path / "pipe", "a folder": tmp_path / "folder", "a socket": tmp_path / "socket", "a device": Path("/dev/zero")}
    for kind, path in paths.items():
        with pytest.raises(UnreadableFile, match=kind):
            read_plain(path, 10)


def test_reading_ends_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_plain(tmp_path / "a", 5) == b"12345"
    with pytest.raises(UnreadableFile, match="5 bytes; at most 4"):
        read_plain(tmp_path / "a", 4)
    with pytest.raises(UnreadableFile, match="at most 10"):
        read_plain(Path("/proc/cpuinfo"), 10)  # says that it has no bytes
