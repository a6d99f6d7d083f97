"""Pulling a model that is published inside a zip archive."""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posewire.errors import PosewireError
from posewire.registry import unpack
from posewire.registry.manifest import load_manifest
from posewire.registry.store import ModelStore
from posewire.tools.compiler.pull import pull
from tests.compiler.archives import ENTRY, INNER, end2end_model, member, zip_of
from tests.registry.downloads import file_limit, make_store, prefix, whole
from tests.registry.file_server import FileServer, file_server

README = ("20230831/README.md", b"how to use it\n" * 20)
Pull = Callable[..., ModelStore]


def archive() -> bytes:
    return zip_of(README, (INNER, end2end_model()))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server(archive()) as files:
        yield files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pulled"


@pytest.fixture
def pull_people(tmp_path: Path, root: Path, server: FileServer) -> Pull:
    """Pull `people` from the server's archive, and open the store that it is in then."""

    def pull_it(proof: str | None = None, limit: int | None = None) -> ModelStore:
        folder = tmp_path / f"store{len(list(tmp_path.iterdir()))}"
        entry = ENTRY.format(address=f"{server.base}/sdk/net-05d8511e.zip", proof=member(end2end_model()) if proof is None else proof)
        manifest = load_manifest(make_store(folder, entry) / "manifest.toml")
        with file_limit(limit):
            pull("people", manifest, root)
        return ModelStore(folder, root)

    return pull_it


def refusal(pull_people: Pull, root: Path, proof: str | None = None, limit: int | None = None) -> str:
    with pytest.raises(PosewireError) as caught:
        pull_people(proof, limit)
    assert "\n" not in str(caught.value)
    assert [path.name for path in root.rglob("*") if path.is_file() and path.name != ".lock"] == []
    return str(caught.value)


@pytest.mark.parametrize("name", ["end2end.onnx", "net-05d8511e/end2end.onnx", INNER])
@pytest.mark.parametrize("proof", [str, prefix, whole])
def test_one_file_of_the_archive_is_kept(pull_people: Pull, root: Path, name: str, proof: Callable[[bytes], str]) -> None:
    of_archive = "" if proof is str else proof(archive())
    store = pull_people(f"{of_archive}\n{member(end2end_model(), name=name, size=True)}")
    spec = store.manifest.get("people", "detector")
    assert store.verified_bytes(spec) == end2end_model()
    kept = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    assert kept == ["cards/people.md", "manifest.toml", "weights/people.onnx"]
    card = (root / spec.card).read_text()
    assert f"of it {name}, SHA-256 {spec.sha256}" in card
    assert ("; of it" in card) is bool(of_archive)


def test_what_is_there_is_not_fetched_again(pull_people: Pull, server: FileServer) -> None:
    pull_people()
    pull_people()
    assert len(server.asked) == 1


def test_a_cut_connection_is_gone_on_from(pull_people: Pull, root: Path, server: FileServer) -> None:
    server.cut_after = 300
    with pytest.raises(PosewireError, match="300 bytes are kept, run it again to go on"):
        pull_people()
    server.cut_after = None
    store = pull_people()
    assert server.headers["Range"] == "bytes=300-"
    assert store.verified_bytes(store.manifest.get("people")) == end2end_model()


def test_a_wrong_sum_of_the_archive_is_told_before_it_is_opened(pull_people: Pull, root: Path, server: FileServer) -> None:
    proof = f"{prefix(server.content)}\n{member(end2end_model())}"
    server.content = b"not a zip at all"
    assert "net-05d8511e.zip: expected SHA-256" in refusal(pull_people, root, proof)


def test_a_wrong_sum_of_the_file_in_it_is_told(pull_people: Pull, root: Path, server: FileServer) -> None:
    server.content = zip_of(README, (INNER, end2end_model() + b"\x00"))
    assert f"{INNER!r} in it: expected SHA-256" in refusal(pull_people, root)
    assert "bytes, found" in refusal(pull_people, root, member(end2end_model(), size=True))


@pytest.mark.parametrize("name", ["start2end.onnx", "2end.onnx", "rtmdet_onnx", "net-05d8511e/other.onnx"])
def test_a_file_that_is_not_in_it_is_told_with_those_that_are(pull_people: Pull, root: Path, name: str) -> None:
    said = refusal(pull_people, root, member(end2end_model(), name=name))
    assert f"has no {name!r}; it has '20230831/README.md', {INNER!r}; nothing was kept" in said


def test_a_name_that_fits_two_files_is_refused(pull_people: Pull, root: Path, server: FileServer) -> None:
    server.content = zip_of((INNER, end2end_model()), ("other/end2end.onnx", b"?"))
    assert f"has 2 times 'end2end.onnx'; it has {INNER!r}, 'other/end2end.onnx'" in refusal(pull_people, root)


def test_a_truncated_archive_is_told(pull_people: Pull, root: Path, server: FileServer) -> None:
    content = server.content
    for end in (0, 10, len(content) // 2, len(content) - 1):
        server.content = content[:end]
        assert "the zip archive is damaged or cut short" in refusal(pull_people, root)


def test_a_damaged_archive_is_told_or_whole(pull_people: Pull, root: Path, server: FileServer) -> None:
    content = server.content
    at = content.index(b"end2end.onnx") + len("end2end.onnx") + 5
    server.content = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
    assert "the zip archive is damaged or cut short" in refusal(pull_people, root)


@pytest.mark.parametrize("name", ["../end2end.onnx", "/etc/end2end.onnx", "a/../../end2end.onnx", "..\\end2end.onnx", "C:end2end.onnx"])
def test_an_entry_outside_the_archive_is_refused(pull_people: Pull, root: Path, server: FileServer, name: str) -> None:
    server.content = zip_of((INNER, end2end_model()), (name, b"out"))
    assert "has an entry outside its folder" in refusal(pull_people, root)
    server.content = zip_of((name, end2end_model()))
    assert "has an entry outside its folder" in refusal(pull_people, root)


def test_a_bomb_is_not_unpacked(pull_people: Pull, root: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = zip_of((INNER, bytes(50_000_000)))
    assert "in it would unpack to 50000000 bytes" in refusal(pull_people, root)
    server.content = archive()
    monkeypatch.setattr(unpack, "MAX_BYTES", len(end2end_model()) - 1)
    assert f"{len(end2end_model()) - 1} at most are believed" in refusal(pull_people, root)


def test_an_archive_that_lies_about_a_size_is_refused(pull_people: Pull, root: Path, server: FileServer) -> None:
    content = bytearray(zip_of((INNER, bytes(50_000_000))))
    at = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)  # the entry after the folder's
    content[at + 24 : at + 28] = struct.pack("<I", 1000)
    server.content = bytes(content)
    assert "the zip archive is damaged" in refusal(pull_people, root)


def test_an_archive_of_very_many_files_is_refused(pull_people: Pull, root: Path, server: FileServer) -> None:
    server.content = zip_of(*((f"{i}", b"") for i in range(10_001)))
    assert "a zip archive of more than 10000 files" in refusal(pull_people, root)


def test_an_encrypted_archive_is_told(pull_people: Pull, root: Path, server: FileServer) -> None:
    content = bytearray(archive())
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        local = opened.getinfo(INNER).header_offset
    central = content.rindex(b"PK\x01\x02")
    content[local + 6] |= 1
    content[central + 8] |= 1
    server.content = bytes(content)
    assert "is encrypted" in refusal(pull_people, root)


@pytest.mark.parametrize("place", ["people.part", "weights/people.onnx"])
def test_a_full_disk_leaves_nothing(pull_people: Pull, root: Path, place: str) -> None:
    if place != "people.part":
        (root / place).mkdir(parents=True)
    assert "cannot be written" in refusal(pull_people, root, limit=100 if place == "people.part" else None)
