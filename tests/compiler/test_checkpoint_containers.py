import struct
import zipfile
from pathlib import Path

import pytest

from tests.compiler.checkpoint_files import FOUR, GOOD, entry, legacy_file, refusal, safetensors_file, tensor, zip_entries, zip_file, zipped


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a checkpoint"),
        (b"<!DOCTYPE html>", "not a checkpoint"),
        (b"\0" * 257 + b"ustar\00000" + b"\0" * 300, "tar format"),
        (b"PK\3\4", "damaged or cut short"),
        (zipped([("a/b", b"")]), "0 data.pkl"),
        (zipped([("a/data.pkl", b""), ("b/data.pkl", b"")]), "2 data.pkl"),
        (zipped([*zip_entries(GOOD), ("archive/constants.pkl", b"")]), "TorchScript"),
        (zipped([*zip_entries(GOOD), ("archive/../../x", b"")]), "outside its folder"),
        (zipped([*zip_entries(GOOD), ("/etc/passwd", b"")]), "outside its folder"),
        (zipped(zip_entries(GOOD), zipfile.ZIP_DEFLATED), "compressed"),
        (zip_file(GOOD, order="middle"), "byte order"),
        (zip_file(GOOD, {}), "no 'archive/data/0'"),
        (zip_file(GOOD).replace(FOUR["0"], b"x" * 16), "CRC"),
        (b"\x80\x02N.", "not one of torch.save"),
        (legacy_file(GOOD, magic=1), "not one of torch.save"),
        (legacy_file(GOOD, protocol=1002), "protocol"),
        (legacy_file(GOOD)[:-1], "cut short"),
        (legacy_file(GOOD, {}), "not in the file"),
        (legacy_file(GOOD, FOUR | {"1": b""}), "list of storages"),
        (legacy_file(GOOD).replace(struct.pack("<q", 4) + FOUR["0"], struct.pack("<q", 3) + FOUR["0"]), "another length"),
        (legacy_file({"a": tensor(numel=2**40)}), "ends inside storage"),
    ],
)
def test_bad_containers_are_told_apart(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refusal(tmp_path, content)


def test_a_zip_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    entries = [*zip_entries(GOOD), ("archive/data/1", FOUR["0"])]
    assert "twice" in refusal(tmp_path, zipped(entries).replace(b"data/1", b"data/0"))


def test_sizes_that_a_zip_lies_about_are_refused(tmp_path: Path) -> None:
    content = zip_file(GOOD)
    directory = content.rindex(b"PK\x01\x02", 0, content.index(b"archive/data/0", content.index(b"PK\x01\x02")))
    for size in (2**20, 2**32 - 2):
        lie = bytearray(content)
        struct.pack_into("<II", lie, directory + 20, size, size)
        assert "larger than the file" in refusal(tmp_path, bytes(lie))
    # 2**32 - 1 says: see the zip64 field, which is not there, or says this.
    lie = bytearray(content)
    struct.pack_into("<II", lie, directory + 20, 2**32 - 1, 2**32 - 1)
    refusal(tmp_path, bytes(lie))
    extra = struct.pack("<HHQQ", 1, 16, 2**62, 2**62)
    struct.pack_into("<H", lie, directory + 30, len(extra))
    lie[directory + 46 + len("archive/data/0") : directory + 46 + len("archive/data/0")] = extra
    end = lie.rindex(b"PK\x05\x06")
    (length,) = struct.unpack_from("<I", lie, end + 12)
    struct.pack_into("<I", lie, end + 12, length + len(extra))
    assert "larger than the file" in refusal(tmp_path, bytes(lie))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": entry(4, begin=16, end=32)}, "invalid offset"),
        ({"a": entry(4), "b": entry(4)}, "invalid offset"),
        ({"a": entry(2, begin=0, end=8), "b": entry(2, begin=4, end=12)}, "invalid offset"),
        ({"a": entry(2, end=8)}, "not fully covered"),
        ({"a": entry(8, end=32)}, "not fully covered"),
        ({"a": entry(5)}, "invalid shape"),
        ({"a": entry(4, dtype="F4")}, "invalid shape"),
        ({"a": entry(-4, end=-16)}, "invalid value"),
        ({"a": entry(2**60, 0, end=0)}, "not fully covered"),
        ({"a": entry(2**47, 2**47, 0, end=0), "b": entry(4)}, "overflow"),
        ({"a": entry(*[1] * 65, end=4)} | {"b": entry(3, begin=4)}, "dimension"),
        ({"a": entry(True, end=4)}, "invalid type"),
        ({"a": entry(16, dtype="F8_E5M2")}, "not supported"),
        ({"a": {"dtype": "F32"}}, "missing field"),
        ({"a": 1}, "invalid type"),
        ({}, "not fully covered"),
        ('{"a": ', "invalid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "invalid JSON"),
        ('{"a":' + "[" * 200_000, "recursion limit"),
        ('{"a": 1, "a": 1}', "invalid type"),
    ],
)
def test_bad_safetensors_are_told_apart(tmp_path: Path, header: object, words: str) -> None:
    assert words in refusal(tmp_path, safetensors_file(header))


def test_a_safetensors_header_cannot_be_longer_than_the_file(tmp_path: Path) -> None:
    for length in (100, 2**40, 2**64 - 1):
        assert "header has" in refusal(tmp_path, struct.pack("<Q", length) + b'{"a": 1}')
