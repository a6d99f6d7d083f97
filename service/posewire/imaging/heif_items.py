"""Count the pixels that a decoder of HEIC or AVIF works on: more than it returns, if the file crops or composes them.

A file has items, and one of them is shown. `ispe` is an item's size before it is cropped (`clap`). A grid or an overlay has items of
its own, named by `dimg`; its decoder decodes each of them completely, as often as it is named. Neither
pillow-heif nor Pillow returns these sizes.
"""

import struct
from collections.abc import Iterator
from typing import Final

from posewire.errors import BadPicture
from posewire.imaging.header import DAMAGED

_MAX_LEVELS: Final = 4  # of images that consist of images; cameras write one

_MAX_BOXES: Final = 10_000  # of one box; libheif takes 100
_MAX_ENTRIES: Final = 100_000  # of properties and of tiles; going through them takes 0.1 s

# The last tiles of a grid go beyond its edges. Those of a 48-megapixel iPhone have 3 % more pixels than the grid.
_MAX_EDGES: Final = 1.25


def count_decoded(view: memoryview) -> int:
    """Return the pixels that are decoded for the largest item of a file, hidden ones too; 0: no item has a size.

    The tiles at the edges of a grid count as the grid alone, as long as they are a quarter more at most.

    Args:
        view: a file that libheif or libavif has opened.

    Raises:
        BadPicture: images consist of images that consist of images, too many times, or there are too many boxes or entries.
        struct.error: a box ends within a field.
    """
    sizes: dict[int, int] = {}
    parts: dict[int, list[int]] = {}
    for kind, body in _boxes(view):
        if kind == b"meta":
            for kind_inside, inside in _boxes(body[4:]):
                if kind_inside == b"iprp":
                    _read_sizes(inside, sizes)
                elif kind_inside == b"iref":
                    _read_parts(inside, parts)
    if sum(map(len, parts.values())) > _MAX_ENTRIES:
        raise BadPicture(DAMAGED)
    for _ in range(_MAX_LEVELS):
        before = dict(sizes)
        for item, of in parts.items():
            size, composed = before.get(item, 0), sum(before.get(part, 0) for part in of)
            sizes[item] = composed if composed > _MAX_EDGES * size else size
        if sizes == before:
            return max(sizes.values(), default=0)
    raise BadPicture(DAMAGED)


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the type and the content of each box; what follows a damaged one is left out."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > view.nbytes:
            return
        size, kind = struct.unpack_from(">I4s", view, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", view, start)
            start += 8
        end = at + size if size else view.nbytes
        if not start <= end <= view.nbytes:
            return
        yield kind, view[start:end]
        at = end
    raise BadPicture(DAMAGED)


def _read_sizes(iprp: memoryview, sizes: dict[int, int]) -> None:
    """Add the pixels of each item: the largest of its sizes."""
    properties = [inside for kind, body in _boxes(iprp) if kind == b"ipco" for inside in _boxes(body)]
    for kind, body in _boxes(iprp):
        if kind == b"ipma":
            for entry, (item, index) in enumerate(_associations(body)):
                if entry == _MAX_ENTRIES:
                    raise BadPicture(DAMAGED)
                if 0 < index <= len(properties) and properties[index - 1][0] == b"ispe":
                    width, height = struct.unpack_from(">II", properties[index - 1][1], 4)
                    sizes[item] = max(sizes.get(item, 0), width * height)


def _associations(ipma: memoryview) -> Iterator[tuple[int, int]]:
    """Yield each item with the numbers of its properties, which begin with 1."""
    version, flags, entries = struct.unpack_from(">B2xBI", ipma)
    item_format = ">HB" if version == 0 else ">IB"
    index_format, index_mask = (">H", 0x7FFF) if flags & 1 else (">B", 0x7F)
    at = 8
    for _ in range(entries):
        item, count = struct.unpack_from(item_format, ipma, at)
        at += struct.calcsize(item_format)
        for _ in range(count):
            (index,) = struct.unpack_from(index_format, ipma, at)
            at += struct.calcsize(index_format)
            yield item, index & index_mask


def _read_parts(iref: memoryview, parts: dict[int, list[int]]) -> None:
    """Add the items that each item is composed of, as often as they are named."""
    name = "H" if iref[0] == 0 else "I"
    for kind, body in _boxes(iref[4:]):
        if kind == b"dimg":
            item, count = struct.unpack_from(f">{name}H", body)
            parts.setdefault(item, []).extend(struct.unpack_from(f">{count}{name}", body, struct.calcsize(f">{name}H")))
