"""The images of tar files, in the order of the archive, as WebDataset reads them: https://github.com/webdataset/webdataset."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Final, cast

from posewire.batch.items import Failure, Item, Key, printable
from posewire.batch.places import open_file, reason_of
from posewire.batch.sources import IMAGES, Source

_BLOCK: Final = 512
# `tarfile` remembers each member that it has read. So an archive is opened again after so many, at the place that is reached.
_MEMBERS: Final = 1000


@dataclass(frozen=True, slots=True)
class Member:
    """A plain file of an archive."""

    name: str
    content: bytes | Failure


def tar_items(source: Source, max_bytes: int) -> Iterator[Item]:
    """Yield the images of a tar file; what is not an image by its name is left out.

    The image's name is WebDataset's key: the path in the archive up to the first dot of the file's name. A further image with the
    same key fails. A damaged archive fails after the members that could be read.

    Args:
        source: of the kind "tar".
        max_bytes: limit of bytes of one image; a longer one fails and is not read.

    Raises:
        Unreadable: the file cannot be opened.
    """
    seen: set[str] = set()
    with open_file(source.address) as file:
        reader = _Reader(_unpacked(source, file), max_bytes)
        weight_of = _Weights(file)
        try:
            for member in reader.members():
                key = key_of(member.name)
                content = member.content
                if key in seen:
                    content = Failure("same-key-twice", f"an image before {printable(member.name)} has the key {printable(key)}")
                    key = _unused(member.name, seen)
                seen.add(key)
                yield Item(Key(source.name, printable(key)), content, weight_of.next())
        except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error, ValueError) as error:
            message = f"the archive is damaged or cut short after {reader.count} files: {reason_of(error)}"
            yield Item(Key(source.name, ""), Failure("bad-archive", message), 0.0)


def key_of(name: str) -> str:
    """Return the key of a member: its path up to the first dot of the file's name; the whole path if nothing is before that dot."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0] or file}"


def _unused(name: str, seen: set[str]) -> str:
    number = 2
    candidate = name
    while candidate in seen:
        candidate = f"{name} ({number})"
        number += 1
    return candidate


class _Weights:
    """The bytes of the file, as it is stored, from one image to the next."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._last = 0

    def next(self) -> float:
        """Return how many bytes were read since the last call."""
        at = self._file.tell()
        read, self._last = at - self._last, at
        return float(max(0, read))


def _unpacked(source: Source, file: IO[bytes]) -> IO[bytes]:
    """Return the archive without its compression, which the file's name tells."""
    name = source.address.lower()
    if name.endswith(("gz", ".tgz")):
        return cast("IO[bytes]", gzip.open(file))
    if name.endswith("bz2"):
        return cast("IO[bytes]", bz2.open(file))
    return cast("IO[bytes]", lzma.open(file)) if name.endswith("xz") else file


class _Reader:
    """Reads the images of an archive in bounded memory.

    Args:
        file: the archive, without compression; it can seek.
        max_bytes: of one image.
    """

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self.count = 0  # files that were read or passed over

    def members(self) -> Iterator[Member]:
        """Yield the images.

        Raises:
            TarError, EOFError, OSError: the archive is damaged.
        """
        start: int | None = 0
        while start is not None:
            start = yield from self._some(start)

    def _some(self, start: int) -> Generator[Member, None, int | None]:
        """Yield images from an offset on; return the offset of the first member that was not read, or None at the end."""
        self._file.seek(start)
        end = start  # of the last member; -1: not known
        with closing(tarfile.open(fileobj=self._file, mode="r:")) as archive:
            for number, info in enumerate(archive):
                if number == _MEMBERS:
                    return info.offset
                self.count += 1
                if info.isreg() and _is_image(info.name):
                    yield Member(info.name, self._content(archive, info))
                has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
                end = -1 if info.issparse() else info.offset_data + has_data * -(-info.size // _BLOCK) * _BLOCK
            self._check_end(end)
        return None

    def _content(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes | Failure:
        if info.size > self._max_bytes:
            return Failure("too-large", f"the file has {info.size:,} bytes; at most {self._max_bytes:,} are taken")
        opened = archive.extractfile(info)
        assert opened is not None
        content = opened.read()
        if len(content) < info.size:
            raise tarfile.ReadError("unexpected end of data")
        return content

    def _check_end(self, end: int) -> None:
        """Raise an error if no end mark follows: `tarfile` takes a damaged header, and a missing one, for the end.

        Raises:
            ReadError: something else follows.
        """
        if end < 0:
            return
        self._file.seek(end)
        block = self._file.read(_BLOCK)
        if not block:
            raise tarfile.ReadError("there is no end mark")
        if block.strip(b"\0"):
            raise tarfile.ReadError("a header is damaged")


def _is_image(name: str) -> bool:
    file = name.rpartition("/")[2]
    return not file.startswith("._") and any(file.lower().endswith(suffix) for suffix in IMAGES)
