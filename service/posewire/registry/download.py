"""Download a file, or copy it from a mirror, and verify it."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import httpx

from posewire.errors import ModelError
from posewire.files import UnreadableFile, create, open_own, open_plain, read_plain
from posewire.registry.sources import Source, open_client, shown
from posewire.registry.specs import RemoteFile

Report: TypeAlias = Callable[[int, int | None], None]  # bytes received, and the total; None: unknown
MAX_BYTES: Final = 1 << 30  # of a file without a size in the manifest
_CHUNK: Final = 1 << 18
_MAX_TAG_BYTES: Final = 4096
_OK, _PARTIAL, _NOT_SATISFIABLE = 200, 206, 416


@dataclass(frozen=True, slots=True)
class Part:
    """A partial download, and the tag of the version that the server sends, in a file beside it.

    Only files of this user count. Somebody else may write to the folder: a link that was planted there is not followed.
    """

    path: Path

    @property
    def _tag_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.tag")

    def size(self) -> int:
        """Return the number of bytes received."""
        return self.path.lstat().st_size if _is_own(self.path) else 0

    def begin(self, tag: str) -> None:
        """Start again from nothing; the tag is empty if the server sends none."""
        self.discard()
        for path, content in ((self.path, ""), (self._tag_path, tag)):
            with os.fdopen(create(path), "w", encoding="utf-8") as file:
                file.write(content)

    def resume_headers(self) -> dict[str, str]:
        """Return the request headers for the missing bytes; with If-Range a changed file is sent as a whole."""
        if not self.size():
            return {}
        headers = {"Range": f"bytes={self.size()}-"}
        tag = self._tag()
        return headers | ({"If-Range": tag} if tag and tag.isascii() and tag.isprintable() else {})

    def _tag(self) -> str:
        if not _is_own(self._tag_path):
            return ""
        try:
            return read_plain(self._tag_path, _MAX_TAG_BYTES).decode(errors="replace")
        except UnreadableFile:
            return ""

    def discard(self) -> None:
        """Delete both files, if that is possible; else `begin` fails."""
        for path in (self.path, self._tag_path):
            with suppress(OSError):
                path.unlink()


def _user() -> int:
    """Return the number of this user as `os.stat` has it: Windows numbers no users, and has 0 for all."""
    return int(getattr(os, "geteuid", int)())


def _is_own(path: Path) -> bool:
    """Return whether a path is a plain file of this user that has no other name: writing to it changes nothing else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == _user()


def fetch(remote: RemoteFile, source: Source, part: Part, report: Report) -> None:
    """Complete `part` to the remote file. After an error the part stays only if a retry may resume it.

    Raises:
        ModelError: the file is missing or another one, the connection was lost, or the disk is full.
    """
    try:
        if isinstance(source, Path):
            _copy(remote, source, part, report)
        elif part.size() != remote.bytes:
            _receive(remote, source, part, report)
        _verify(remote, source, part)
    except OSError as error:
        part.discard()
        remedy = "free some space, or choose another folder" if error.errno == errno.ENOSPC else "choose another folder"
        raise ModelError(f"{part.path}: cannot be written: {error.strerror}; {remedy} with --store") from None


def _remedy(remote: RemoteFile, source: Source) -> str:
    """Return what to do about a source that does not have the file."""
    if source == remote.address:
        return f"without internet, set POSEWIRE_MODEL_MIRROR to a folder or server that has {remote.file_name}"
    return f"POSEWIRE_MODEL_MIRROR must name a folder or server that has this file of {shown(remote.address)}"


def _copy(remote: RemoteFile, source: Path, part: Part, report: Report) -> None:
    part.begin("")
    try:
        handle = open_plain(source)
    except UnreadableFile as error:
        part.discard()
        raise ModelError(f"{source}: the mirror's file {error.reason}; {_remedy(remote, source)}") from None
    with handle:
        total = os.fstat(handle.fileno()).st_size
        _check_total(remote, source, part, total)
        _write(remote, source, part, iter(lambda: handle.read(_CHUNK), b""), total, report)


def _receive(remote: RemoteFile, address: str, part: Part, report: Report) -> None:
    try:
        with open_client(address) as client:
            if not _receive_once(client, remote, address, part, report):
                part.discard()
                _receive_once(client, remote, address, part, report)
    except httpx.TooManyRedirects:
        raise ModelError(f"{shown(address)}: leads from one address to the next without end") from None
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        why = f"{shown(address)}: cannot be reached ({error or type(error).__name__})"
        raise ModelError(f"{why}; {_remedy(remote, address)}") from None
    except (httpx.TransportError, httpx.StreamError) as error:
        why = f"{type(error).__name__}: {error}".rstrip(": ")
        kept = f"{part.size()} bytes are kept, run it again to go on" if part.size() else "run it again"
        raise ModelError(f"{shown(address)}: the connection failed ({why}); {kept}") from None
    except httpx.InvalidURL as error:
        raise ModelError(f"{shown(address)}: not an address: {error}") from None


def _receive_once(client: httpx.Client, remote: RemoteFile, address: str, part: Part, report: Report) -> bool:
    """Append the response to `part`; return False if the bytes in `part` do not fit the response."""
    have, headers = part.size(), part.resume_headers()
    with client.stream("GET", address, headers=headers) as response:
        ranges = response.headers.get("Content-Range", "")
        if headers and response.status_code == _NOT_SATISFIABLE:
            return bool(ranges == f"bytes */{have}")  # complete
        if headers and response.status_code == _PARTIAL:
            if not ranges.startswith(f"bytes {have}-"):
                return False
        elif response.status_code == _OK:
            have = 0
            part.begin(_tag(response.headers))
        else:
            answered = f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
            raise ModelError(f"{shown(address)}: {answered}; {_remedy(remote, address)}")
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _check_total(remote, address, part, total)
        _write(remote, address, part, response.iter_raw(), total, report)
    return True


def _tag(headers: httpx.Headers) -> str:
    """Return the identifier of a version of the file: a strong ETag, or the date of its last change."""
    tag = headers.get("ETag", "")
    return str(headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag)


def _check_total(remote: RemoteFile, source: Source, part: Part, total: int | None) -> None:
    if total is None:
        return
    if remote.bytes not in (None, total):
        part.discard()
        raise ModelError(f"{shown(source)}: expected {remote.bytes} bytes, found {total}; nothing was kept")
    if total > MAX_BYTES and remote.bytes is None:
        part.discard()
        raise ModelError(f"{shown(source)}: {total} bytes are more than {MAX_BYTES}, which is the limit; nothing was kept")


def _write(remote: RemoteFile, source: Source, part: Part, chunks: Iterable[bytes], total: int | None, report: Report) -> None:
    have, limit = part.size(), remote.bytes or MAX_BYTES
    report(have, total)
    with os.fdopen(open_own(part.path), "ab") as file:
        for chunk in chunks:
            have += len(chunk)
            if have > limit:
                part.discard()
                raise ModelError(f"{shown(source)}: sends more than {limit} bytes; nothing was kept")
            file.write(chunk)
            report(have, total)


def _verify(remote: RemoteFile, source: Source, part: Part) -> None:
    size = part.size()
    if remote.bytes is not None and size < remote.bytes:
        raise ModelError(f"{shown(source)}: ended after {size} of {remote.bytes} bytes; run it again to go on")
    with part.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(remote.digest):
        part.discard()
        more = "" if remote.sha256 else "…"
        raise ModelError(f"{shown(source)}: expected SHA-256 {remote.digest}{more}, found {digest}; nothing was kept")
