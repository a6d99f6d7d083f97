"""Checkpoints written byte by byte, so that tests need no torch and can write what torch never would."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from posewire.errors import ModelError
from posewire.registry.weights.tensors import Array
from posewire.tools.compiler.litehrnet.checkpoint import read_checkpoint

MAGIC = 0x1950A86A20F9469CFC6C
FLOATS = "torch.FloatStorage"


class Ops(bytes):
    """Opcodes of a pickle that leave one value on the stack."""


def ops(value: object) -> Ops:
    """Opcodes for plain data, in which `Ops` may stand for values."""
    if isinstance(value, Ops):
        return value
    if isinstance(value, tuple | list):
        return Ops(b"(" + b"".join(map(ops, value)) + (b"t" if isinstance(value, tuple) else b"l"))
    if isinstance(value, dict):
        return Ops(b"(" + b"".join(ops(key) + ops(item) for key, item in value.items()) + b"d")
    return Ops(pickle.dumps(value, 2)[2:-1])


def named(name: str) -> Ops:
    """A class or function."""
    module, _, attribute = name.rpartition(".")
    return Ops(f"c{module}\n{attribute}\n".encode())


def call(name: str, *arguments: object) -> Ops:
    """A call of a class or function."""
    return Ops(named(name) + ops(arguments) + b"R")


def persistent(identity: object) -> Ops:
    """Something that is kept outside the pickle."""
    return Ops(ops(identity) + b"Q")


def tensor(
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    *,
    offset: int = 0,
    key: str = "0",
    kind: str = FLOATS,
    numel: int = 4,
) -> Ops:
    """A tensor over a storage."""
    storage = persistent(("storage", named(kind), key, "cpu", numel))
    return call("torch._utils._rebuild_tensor_v2", storage, offset, size, stride, False, call("collections.OrderedDict"))


def floats(*values: float, order: str = "<") -> bytes:
    """The bytes of a float32 storage."""
    return struct.pack(f"{order}{len(values)}f", *values)


FOUR = {"0": floats(0, 1, 2, 3)}
GOOD = {"a": tensor()}


def zipped(entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def zip_entries(
    tree: object, storages: Mapping[str, bytes] = FOUR, *, top: str = "archive", order: str = "little"
) -> list[tuple[str, bytes]]:
    """The entries of `torch.save`'s archive."""
    entries = [("data.pkl", b"\x80\x02" + ops(tree) + b"."), ("byteorder", order.encode()), ("version", b"3\n")]
    entries += [(f"data/{key}", content) for key, content in storages.items()]
    return [(f"{top}/{name}", content) for name, content in entries]


def zip_file(tree: object, storages: Mapping[str, bytes] = FOUR, *, top: str = "archive", order: str = "little") -> bytes:
    """What `torch.save` writes since torch 1.6."""
    return zipped(zip_entries(tree, storages, top=top, order=order))


def legacy_file(tree: object, storages: Mapping[str, bytes] = FOUR, *, magic: object = MAGIC, protocol: object = 1001) -> bytes:
    """What `torch.save` wrote before, of storages of four-byte numbers."""
    pickles = [magic, protocol, {"little_endian": True}, tree, sorted(storages)]
    tail = [struct.pack("<q", len(storages[key]) // 4) + storages[key] for key in sorted(storages)]
    return b"".join([b"\x80\x02" + ops(value) + b"." for value in pickles] + tail)


def safetensors_file(header: object, content: bytes = FOUR["0"]) -> bytes:
    """A safetensors file; the header may be text."""
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + content


def entry(*shape: int, dtype: str = "F32", begin: int = 0, end: int = 16) -> dict[str, object]:
    """One tensor in a safetensors header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def read(folder: Path, content: bytes) -> dict[str, Array]:
    """What is read from a file of these bytes."""
    path = folder / "made.pth"
    path.write_bytes(content)
    return read_checkpoint(path)


def refusal(folder: Path, content: bytes) -> str:
    """What is said of a file; one line, that begins with its path."""
    with pytest.raises(ModelError) as caught:
        read(folder, content)
    path, _, words = str(caught.value).partition(": ")
    assert path == str(folder / "made.pth")
    assert words.isprintable()
    assert len(words) < 1000
    return words
