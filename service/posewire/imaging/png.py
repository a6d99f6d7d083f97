"""Read the header of a PNG, and bound the work of its decoder.

Deflate expands up to 1032 times, and libpng inflates whatever is there: megabytes beyond the last row, and every compressed text
and colour profile. 1 MB of it takes 3 s of a core. It also goes through millions of deflate blocks that bring nothing: 20 MB of
them take 3 s.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from posewire.errors import BadPicture
from posewire.imaging.header import ANIMATED, DAMAGED, Header

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS: Final = 100_000  # libpng writes chunks of 8 KiB; a walk this long takes 30 ms

_ANCILLARY: Final = 0x20  # of a chunk type's first byte: decoders may skip the chunk
_READ: Final = frozenset({b"tRNS", b"eXIf"})  # ancillary chunks with an effect on the pixels of `decode`

_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# x and y of the first pixel, then the distances to the next ones (PNG specification, 8.1).
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

# Encoders end the data with the last row. Some write a few bytes too many.
_SLACK: Final = 64 << 10  # bytes
# Rows that do not compress are stored as they are. Some encoders flush after each: zlib then writes 5 bytes for the block of the
# row, 5 for the flush, and parts of bytes around them.
_ROW_OVERHEAD: Final = 16  # bytes
# Compressed data of this size are not inflated: they expand to 1 GiB at most, and their blocks take 0.2 s at most.
_UNCHECKED: Final = 1 << 20  # bytes
_INFLATE_INPUT: Final = 16 << 10  # bytes inflated at a time
_INFLATE_OUTPUT: Final = 1 << 20


def read_header(view: memoryview) -> Header:
    """Read the size from IHDR, then look for an animation and for chunks that are longer than the file.

    OpenCV allocates the size that a chunk claims, up to 2 GiB, before it checks that the bytes exist.

    Raises:
        BadPicture: the file does not begin with an IHDR.
        struct.error: the bytes end within it.
    """
    length, kind, width, height = struct.unpack_from(">I4sII", view, len(SIGNATURE))
    if (length, kind) != (13, b"IHDR"):
        raise BadPicture(DAMAGED)
    before_pixels = True
    for kind, _, _ in _chunks(view):
        if kind == b"IEND":
            return Header(width, height)
        if kind == b"acTL" and before_pixels:  # after the pixels it has no meaning
            return Header(width, height, ANIMATED)
        before_pixels = before_pixels and kind != b"IDAT"
    return Header(width, height, DAMAGED)


def prepare(view: memoryview, header: Header) -> bytes | memoryview:
    """Return the file for OpenCV, without the chunks that change no pixel: libpng inflates them.

    Raises:
        BadPicture: the compressed pixels are more than the rows need.
    """
    kept: list[memoryview] = []
    pixels: list[memoryview] = []
    dropped = False
    for kind, start, end in _chunks(view):
        if kind == b"IDAT":
            pixels.append(view[start + 8 : end - 4])
        if kind[0] & _ANCILLARY and kind not in _READ:
            dropped = True
        else:
            kept.append(view[start:end])
        if kind == b"IEND":
            break
    _check_length(pixels, _rows(view, header))
    return b"".join([SIGNATURE, *kept]) if dropped else view


def _chunks(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each complete chunk and the offsets of its first byte and of its end, at most `_MAX_CHUNKS`."""
    at = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > view.nbytes:
            return
        length, kind = struct.unpack_from(">I4s", view, at)
        end = at + 12 + length
        if end > view.nbytes:
            return
        yield kind, at, end
        at = end


def _rows(view: memoryview, header: Header) -> list[tuple[int, int]]:
    """Return the number of rows of each pass, with the bytes of one of them; its filter byte is one of these."""
    depth, colour, _, _, interlaced = view[24:29]
    bits = depth * _CHANNELS.get(colour, 4)
    passes = []
    for x, y, step_x, step_y in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((x - header.width) // step_x), -((y - header.height) // step_y)
        if columns > 0 and rows > 0:
            passes.append((rows, 1 + (columns * bits + 7) // 8))
    return passes


def _check_length(parts: list[memoryview], passes: list[tuple[int, int]]) -> None:
    """Raise BadPicture if the compressed pixels, `parts`, are much more than the rows need, as a whole or up to some byte.

    The last 1 MiB is not inflated, nor what the rows would take without compression if that is less: so much cannot cost much.
    The data before it are inflated, which makes the decoding of large files slower by half at most.
    """
    inflated = sum(rows * row_bytes for rows, row_bytes in passes)
    stored = 1 + _ROW_OVERHEAD / min(row_bytes for _, row_bytes in passes)  # compressed bytes for an inflated one, at most
    compressed = sum(part.nbytes for part in parts)
    if compressed > inflated * stored + _SLACK:
        raise _excess()
    unchecked = min(inflated + _SLACK, _UNCHECKED)
    consumed = produced = 0
    inflater = zlib.decompressobj()
    try:
        for piece in _pieces(parts, compressed - unchecked):
            waiting: bytes | memoryview = piece
            while waiting and not inflater.eof:
                produced += len(inflater.decompress(waiting, _INFLATE_OUTPUT))
                if produced > inflated + _SLACK:
                    raise _excess()
                waiting = inflater.unconsumed_tail
            consumed += piece.nbytes
            if consumed > produced * stored + _SLACK:  # of blocks that bring nothing
                raise _excess()
    except zlib.error:
        return  # libpng stops at the same byte


def _pieces(parts: list[memoryview], size: int) -> Iterator[memoryview]:
    """Yield the first `size` bytes, some at a time."""
    for part in parts:
        for start in range(0, min(part.nbytes, size), _INFLATE_INPUT):
            yield part[start : min(start + _INFLATE_INPUT, size)]
        size -= part.nbytes


def _excess() -> BadPicture:
    return BadPicture("the PNG has more compressed data than its size needs; save it again")
