"""The two containers of `torch.save`: zip archives (since torch 1.6) and pickles followed by storages (before)."""

import io
import struct
import zipfile
from functools import cache
from typing import Final

from posewire.registry.weights.tensors import DTYPES, MalformedError, quoted
from posewire.tools.compiler.litehrnet.storages import Contents, Storage
from posewire.tools.compiler.litehrnet.unpickler import load_pickle

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_MAX_ENTRIES: Final = 100_000
_LENGTH: Final = struct.Struct("<q")


def read_zip(data: bytes) -> Contents:
    """Read a zip archive: `NAME/data.pkl`, and `NAME/data/KEY` for every storage.

    Raises:
        MalformedError: the archive is damaged, or not one of `torch.save`.
    """
    if data.count(b"PK\x01\x02") > _MAX_ENTRIES:  # checked first: zipfile creates an object for each
        raise MalformedError(f"a zip archive of more than {_MAX_ENTRIES} entries")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _ZIP_ERRORS as error:
        raise MalformedError(f"the zip archive is damaged or cut short: {_reason(error)}") from None
    entries = _check_entries(archive.infolist(), len(data))
    tops = [name.removesuffix("data.pkl") for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(tops) != 1:
        raise MalformedError(f"a zip archive with {len(tops)} data.pkl where torch.save writes one")
    top = tops[0]
    if f"{top}constants.pkl" in entries:
        raise MalformedError("a TorchScript program, not a checkpoint of torch.save")

    @cache
    def entry(name: str) -> bytes:
        if name not in entries:
            raise MalformedError(f"the zip archive has no {quoted(name)}")
        try:
            return archive.read(entries[name])
        except _ZIP_ERRORS as error:
            raise MalformedError(f"{quoted(name)} of the zip archive is damaged: {_reason(error)}") from None

    order = entry(f"{top}byteorder") if f"{top}byteorder" in entries else b"little"
    if order not in (b"little", b"big"):
        raise MalformedError(f"an unknown byte order: {order[:20]!r}")
    tree, _ = load_pickle(entry(f"{top}data.pkl"), 0, {})
    return Contents(tree, lambda storage: entry(f"{top}data/{storage.key}"), big_endian=order == b"big")


# zipfile raises these for damaged or hostile archives.
_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


def _reason(error: Exception) -> str:
    return quoted(str(error) or type(error).__name__)


def _check_entries(infos: list[zipfile.ZipInfo], file_bytes: int) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        if name in entries:
            raise MalformedError(f"the zip archive has {quoted(name)} twice")
        if ".." in name.split("/") or name.startswith("/") or "\\" in name:
            raise MalformedError(f"the zip archive has an entry outside its folder: {quoted(name)}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise MalformedError(f"{quoted(name)} of the zip archive is compressed, which torch.save never does")
        entries[name] = info
    # Entries that overlap could add up to any size.
    if sum(info.file_size for info in infos) > file_bytes:
        raise MalformedError("the entries of the zip archive are larger than the file")
    return entries


def read_legacy(data: bytes) -> Contents:
    """Read a file of torch before 1.6: magic, protocol, system, the object, the storages' keys, then length and values of each.

    Raises:
        MalformedError: the file is damaged, or a pickle of another program.
    """
    storages: dict[str, Storage] = {}
    magic, end = load_pickle(data, 0, storages)
    if magic != _MAGIC:
        raise MalformedError("a pickle, but not one of torch.save")
    protocol, end = load_pickle(data, end, storages)
    if protocol != _PROTOCOL:
        raise MalformedError(f"not protocol {_PROTOCOL} of torch.save")
    _, end = load_pickle(data, end, storages)  # sizes of the writer's C types: the storages are always little-endian
    tree, end = load_pickle(data, end, storages)
    keys, end = load_pickle(data, end, storages)
    spans = _spans(data, end, keys, storages)

    def bytes_of(storage: Storage) -> memoryview:
        if storage.key not in spans:
            raise MalformedError(f"storage {quoted(storage.key)} is not in the file")
        return spans[storage.key]

    return Contents(tree, bytes_of)


def _spans(data: bytes, at: int, keys: object, storages: dict[str, Storage]) -> dict[str, memoryview]:
    if not isinstance(keys, list):
        raise MalformedError("the list of storages is damaged")
    view = memoryview(data)
    spans: dict[str, memoryview] = {}
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or storage.key in spans:
            raise MalformedError("the list of storages is damaged")
        start = at + _LENGTH.size
        end = start + storage.numel * DTYPES[storage.dtype].itemsize
        if not start <= end <= len(data):
            raise MalformedError(f"the file ends inside storage {quoted(storage.key)}; it is cut short or damaged")
        if _LENGTH.unpack_from(data, at) != (storage.numel,):
            raise MalformedError(f"storage {quoted(storage.key)} has another length than its tensors say")
        spans[storage.key] = view[start:end]
        at = end
    return spans
