"""One file out of a zip archive, proved, and nothing else of it."""

import hashlib
import io
import struct
import zipfile
import zlib
from typing import Final

from posewire.errors import ModelError
from posewire.registry.specs import Member

MOST_BYTES: Final = 1 << 28  # of a file whose size the manifest does not know
_MOST_FILES: Final = 10_000
_MOST_RATIO: Final = 100  # unpacked bytes a packed byte; weights hardly shrink at all
_NAMED: Final = 5  # of the archive's files in a message
_END: Final = b"PK\x01\x02"  # before every entry of the archive's index
# What zipfile and zlib are known to raise for archives that are damaged, encrypted, or packed in a way they do not know.
_FAULTS: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, IndexError, KeyError, NotImplementedError, OSError, OverflowError,
    RuntimeError, ValueError,
)  # fmt: skip


def unpack(archive: bytes, member: Member, source: str) -> bytes:
    """A file of a zip archive. Nothing is written, and nothing is unpacked before its size is known to be bearable.

    Args:
        archive: the zip file.
        member: which file, and its sum.
        source: where the archive is from, for messages.

    Raises:
        ModelError: the archive is damaged, hostile, or has no such file, or another; says which, in one line.
    """
    try:
        if archive.count(_END) > _MOST_FILES:  # asked first: zipfile makes an object for each
            raise ModelError(f"{source}: a zip archive of more than {_MOST_FILES} files; nothing was kept")
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            found = _find(opened.infolist(), member, source)
            _check_size(found, member, source)
            content = opened.read(found)
    except _FAULTS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{source}: the zip archive is damaged or cut short: {reason}; nothing was kept, run it again") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != member.sha256:
        raise ModelError(f"{source}: {found.filename!r} in it: expected SHA-256 {member.sha256}, found {digest}; nothing was kept")
    return content


def _find(infos: list[zipfile.ZipInfo], member: Member, source: str) -> zipfile.ZipInfo:
    files = [info for info in infos if not info.is_dir()]
    for info in infos:
        name = info.filename
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise ModelError(f"{source}: the zip archive has an entry outside its folder, {name!r}; nothing was kept")
    fitting = [info for info in files if f"/{info.filename}".endswith(f"/{member.name}")]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(repr(info.filename) for info in (fitting or files)[:_NAMED])
    count = "no" if not fitting else f"{len(fitting)} times"
    raise ModelError(f"{source}: the zip archive has {count} {member.name!r}; it has {names or 'no files'}; nothing was kept")


def _check_size(info: zipfile.ZipInfo, member: Member, source: str) -> None:
    size = info.file_size
    if member.bytes not in (None, size):
        raise ModelError(f"{source}: {info.filename!r} in it: expected {member.bytes} bytes, found {size}; nothing was kept")
    most = min(MOST_BYTES if member.bytes is None else member.bytes, _MOST_RATIO * info.compress_size)
    if size > most:
        raise ModelError(f"{source}: {info.filename!r} in it would unpack to {size} bytes, {most} at most are believed; nothing was kept")
