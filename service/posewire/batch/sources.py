"""From the arguments of a batch to the files that it reads."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Final, Literal, TypeAlias

from posewire.batch.items import Key, printable
from posewire.batch.places import Found, Unreadable, absolute, is_remote, list_folder, local_path, match_pattern, open_file, size_of
from posewire.errors import PosewireError
from posewire.video.reading import SUFFIXES as _VIDEOS

Kind: TypeAlias = Literal["image", "tar", "parquet", "video"]

IMAGES: Final = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".heic", ".heif", ".avif"})
_TARS: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_PATTERN: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Source:
    """One file that a batch reads."""

    address: str  # absolute path or address; a path may have bytes that are no UTF-8
    kind: Kind
    bytes: int  # 0: not known

    @property
    def name(self) -> str:
        """The address as results call it."""
        return printable(self.address)

    @property
    def image(self) -> str:
        """The name of the image, if it is one, or of the frames, if it is a video."""
        return self.name.rpartition("/")[2]

    @property
    def key(self) -> Key:
        """The key of the image, if it is one."""
        return Key(self.name, self.image)


def find_sources(arguments: Iterable[str], stdin: BinaryIO, exclude: Iterable[str] = ()) -> list[Source]:
    """Return the files that arguments name, in order and each once.

    Args:
        arguments: files, folders, patterns, `@LIST` for a file with a line for each of these, and `-` for such lines of `stdin`.
        stdin: the lines of `-`.
        exclude: addresses of files and folders that are no source: the results of this batch.

    Raises:
        PosewireError: an argument names nothing, or a folder or a list cannot be read.
        NotInstalled: an address needs a package; the message says which.
    """
    excluded = tuple(exclude)
    sources: dict[str, Source] = {}
    for argument in arguments:
        named = False
        for found in _of_argument(argument, stdin):
            named = True
            if not any(_is_in(found.address, one) for one in excluded):
                sources.setdefault(found.address, _source(found))
        if not named:
            raise PosewireError(f"{argument or repr(argument)}: there is no image, video, tar or Parquet file")
    return list(sources.values())


def kind_of(address: str) -> Kind | None:
    """Return what a file is, by its name; None: nothing that a batch reads."""
    name = address.rpartition("/")[2].lower()
    suffix = PurePosixPath(name).suffix
    if suffix in IMAGES:
        return "image"
    if name.endswith(_TARS):
        return "tar"
    if suffix in _VIDEOS:
        return "video"
    return "parquet" if suffix == ".parquet" else None


def _of_argument(argument: str, stdin: BinaryIO) -> Iterator[Found]:
    if argument == "-":
        yield from _of_list(stdin)
    elif argument.startswith("@"):
        try:
            with open_file(argument[1:]) as lines:
                yield from _of_list(lines)
        except Unreadable as error:
            raise PosewireError(f"the list {error}") from None
    elif argument:  # else a variable of a script is not set
        yield from _expand(argument)


def _of_list(lines: Iterable[bytes]) -> Iterator[Found]:
    """Yield the files of a list. A line that names nothing is a file, which fails when it is read."""
    for line in lines:
        address = os.fsdecode(line.rstrip(b"\r\n"))
        if not address.strip():
            continue
        if is_remote(address) and not address.endswith("/") and not _PATTERN.search(address):
            yield Found(address, 0)  # to ask for each of a million would take hours
        else:
            yield from _expand(address) or [Found(absolute(address), 0)]


def _expand(argument: str) -> list[Found]:
    """Return the files of a file, a folder or a pattern; none if it names nothing."""
    if "::" in argument:  # a chain of file systems: fsspec cannot name what it lists there
        return [Found(argument, 0)]
    address = absolute(argument)
    if (files := list_folder(address)) is not None:
        return [one for one in files if kind_of(one.address)]
    if (size := size_of(address)) is not None:
        return [Found(address, size)]
    if not _PATTERN.search(argument):
        return []
    if is_remote(argument):
        matches = match_pattern(argument)
    else:
        paths = sorted(glob.glob(address, recursive=True, include_hidden=True), key=os.fsencode)  # noqa: PTH207 - the pattern is absolute
        matches = [Found(path, size) for path in paths if not local_path(path).is_dir() and (size := size_of(path)) is not None]
    return [one for one in matches if kind_of(one.address)]


def _source(found: Found) -> Source:
    """Return the source of a file; what has another suffix than all that is read is tried as an image."""
    return Source(found.address, kind_of(found.address) or "image", found.bytes)


def _is_in(address: str, folder: str) -> bool:
    return address == folder or address.startswith(folder.rstrip("/") + "/")
