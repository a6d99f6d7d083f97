"""Somebody else who may write to the folder of pulled models plants links there: pulling does not write through them."""

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from posewire.errors import ModelError, PosewireError
from posewire.registry.manifest import load_manifest
from posewire.registry.specs import Member
from posewire.registry.store import ModelStore
from posewire.registry.unpack import unpack
from posewire.tools.compiler.pull import pull
from tests.registry.downloads import DETECTOR, FILE, make_store, whole
from tests.registry.file_server import FileServer, file_server

VICTIM = b"private"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server(FILE) as files:
        yield files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pulled"
    (folder / "weights").mkdir(parents=True)
    (folder / "cards").mkdir()
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(VICTIM)
    return path


def pull_box(tmp_path: Path, root: Path, server: FileServer, mirror: str | None = None) -> ModelStore:
    folder = make_store(tmp_path / "store", DETECTOR.format(address=f"{server.base}/box.onnx", proof=whole(FILE)))
    pull("box", load_manifest(folder / "manifest.toml"), root, mirror=mirror)
    return ModelStore(folder, root)


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
@pytest.mark.parametrize("name", ["box.part", "box.part.tag", "weights/box.onnx", "cards/box.md"])
def test_a_link_is_replaced(tmp_path: Path, root: Path, victim: Path, server: FileServer, name: str, kind: str) -> None:
    if kind == "hard":
        (root / name).hardlink_to(victim)
    else:
        (root / name).symlink_to(victim)
    store = pull_box(tmp_path, root, server)
    assert store.verified_bytes(store.manifest.get("box")) == FILE
    assert victim.read_bytes() == VICTIM
    assert not any(VICTIM.decode() in value for _, headers in server.asked for value in headers.values())


def test_what_a_link_names_is_not_made(tmp_path: Path, root: Path, server: FileServer) -> None:
    (root / "box.part").symlink_to(tmp_path / "made")
    pull_box(tmp_path, root, server)
    assert not (tmp_path / "made").exists()


def test_the_tag_of_a_partial_download_is_not_read_through_a_link(tmp_path: Path, root: Path, victim: Path, server: FileServer) -> None:
    (root / "box.part").write_bytes(FILE[:100])
    (root / "box.part.tag").symlink_to(victim)
    pull_box(tmp_path, root, server)
    assert server.headers["Range"] == "bytes=100-"
    assert "If-Range" not in server.headers


def test_the_lock_is_not_taken_through_a_link(tmp_path: Path, root: Path, victim: Path, server: FileServer) -> None:
    (root / ".lock").symlink_to(victim)
    with pytest.raises(ModelError, match=r"\.lock: cannot be written"):
        pull_box(tmp_path, root, server)
    assert victim.read_bytes() == VICTIM


def test_a_folder_in_the_place_of_the_download_is_an_error(tmp_path: Path, root: Path, server: FileServer) -> None:
    (root / "box.part").mkdir()
    with pytest.raises(ModelError, match=r"box\.part: cannot be written"):
        pull_box(tmp_path, root, server)


def test_a_pipe_on_a_mirror_is_an_error(tmp_path: Path, root: Path, server: FileServer) -> None:
    os.mkfifo(tmp_path / "box.onnx")
    with pytest.raises(ModelError, match="the mirror's file cannot be read: it is a pipe"):
        pull_box(tmp_path, root, server, mirror=str(tmp_path))


def test_a_mirror_in_the_home_of_nobody_is_an_error(tmp_path: Path, root: Path, server: FileServer) -> None:
    with pytest.raises(PosewireError, match="POSEWIRE_MODEL_MIRROR"):
        pull_box(tmp_path, root, server, mirror="~nobody-has-this-name/models")


@pytest.mark.parametrize("name", ["../net.onnx", "/net.onnx", "a/../../net.onnx"])
def test_an_archive_with_a_path_outside_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="outside its folder"):
        unpack(_archive(zipfile.ZipInfo(name)), Member(name="net.onnx", sha256="0" * 64), "there")


def test_an_archive_with_a_link_is_refused() -> None:
    link = zipfile.ZipInfo("net.onnx")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(ModelError, match=r"has a link, 'net\.onnx'"):
        unpack(_archive(link), Member(name="net.onnx", sha256="0" * 64), "there")


def _archive(entry: zipfile.ZipInfo) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(entry, b"/etc/passwd")
    return packed.getvalue()
