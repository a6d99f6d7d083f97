"""The parts of a batch: the images of its sources, and the outcome of each."""

import hashlib
import os
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from posewire.types import Frame, PoseResult


class Key(NamedTuple):
    """The identity of an image. No two images of a batch have the same."""

    source: str  # address of the file that holds it
    image: str  # its name in the source
    frame: int | None = None  # number in a video, from 0

    def digest(self) -> bytes:
        """Return 16 bytes that no other key has: a batch remembers them of each image that is done."""
        text = f"{self.source}\0{self.image}\0{'' if self.frame is None else self.frame}"
        return hashlib.blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result."""

    reason: str  # a short code: the type of a problem of the service, or one of `posewire.batch`
    message: str  # one line


class Unread(NamedTuple):
    """An image that is a file of its own. It is read when it is needed."""

    address: str
    bytes: int  # size that the listing told; 0: not known


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One image of a source."""

    key: Key
    content: bytes | Frame | Unread | Failure  # encoded, upright pixels, a file, or why it cannot be read
    weight: float  # share of the source, in its bytes, from the image before it to this one
    time_ms: float | None = None  # in a video, from its first frame


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a source with several images."""

    source: str
    bytes: int  # its size
    images: int  # images and failures that it has
    new: int  # those of them that were not done before
    weight: float  # bytes after the last image


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The outcome of one image."""

    key: Key
    result: PoseResult | Failure
    weight: float = 0.0  # as of the item
    time_ms: float | None = None  # as of the item


Read: TypeAlias = Item | Ended


def printable(text: str) -> str:
    """Return a name with escapes for bytes that are no UTF-8."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
