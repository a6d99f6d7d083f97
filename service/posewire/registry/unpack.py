"""Extract one file of a zip archive and verify it."""

import hashlib
import io
import stat
import struct
import zipfile
import zlib
from typing import Final

from posewire.errors import ModelError
from posewire.registry.specs import Member

MAX_BYTES: Final = 1 << 28  # of a file without a size in the manifest
_MAX_FILES: Final = 10_000
_MAX_RATIO: Final = 100  # unpacked bytes per packed byte; weights compress very little
_MODE_AT: Final = 16  # the bits of `external_attr` from which it is the file's mode on Unix
_NAMED: Final = 5  # files of the archive in a message
_END: Final = b"PK\x01\x02"  # before every entry of the archive's index
# zipfile and zlib raise these for archives that are damaged, encrypted, or packed by an unknown method.
_FAULTS: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, IndexError, KeyError, NotImplementedError, OSError, OverflowError,
    RuntimeError, ValueError,
)  # fmt: skip


def unpack(archive: bytes, member: Member, source: str) -> bytes:
    """Return a file of a zip archive. Nothing is written, and sizes are checked before anything is unpacked.

    Args:
        archive: the zip file.
        member: name and checksum of the file.
        source: address of the archive, for messages.

    Raises:
        ModelError: the archive is damaged or hostile, or the file is missing or another one; the message is one line.
    """
    try:
        if archive.count(_END) > _MAX_FILES:  # checked first: zipfile creates an object for each
            raise ModelError(f"{source}: a zip archive of more than {_MAX_FILES} files; nothing was kept")
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
        if stat.S_ISLNK(info.external_attr >> _MODE_AT):
            raise ModelError(f"{source}: the zip archive has a link, {name!r}; nothing was kept")
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
    limit = min(MAX_BYTES if member.bytes is None else member.bytes, _MAX_RATIO * info.compress_size)
    if size > limit:
        raise ModelError(f"{source}: {info.filename!r} in it would unpack to {size} bytes, {limit} at most are believed; nothing was kept")
