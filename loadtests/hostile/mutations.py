"""Damage to bytes: what every format suffers, and what suffers a file made of blocks that have a length each."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

Mutation = Callable[[Random, bytes], bytes]

# What breaks arithmetic: nothing, one, the most and the least of signed and unsigned numbers.
_EDGES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
_MAX_FLIPS = 24
_HEADER = 64
_FILL = 256
_LEAST = 16  # bytes that can be damaged further


class Block(NamedTuple):
    """A part of a file with a length field: a JPEG segment, a PNG chunk, a RIFF chunk, an MP4 box."""

    start: int
    end: int
    length_at: int  # where its length field is
    length_format: str  # of `struct`


def flip_bits(random: Random, data: bytes, most: int = _MAX_FLIPS) -> bytes:
    """Some bits, anywhere, `most` at the most."""
    changed = bytearray(data)
    for _ in range(random.randint(1, most)):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(random: Random, data: bytes) -> bytes:
    """Cut short; at times closed with what an encoder writes at the end."""
    cut = data[: random.randrange(1, len(data))]
    return cut + data[-12:] if random.random() < 0.25 else cut


def edit_header(random: Random, data: bytes) -> bytes:
    """One to four bytes at the start become extreme."""
    changed = bytearray(data)
    at = random.randrange(min(_HEADER, len(data)))
    for i in range(at, min(len(data), at + random.randint(1, 4))):
        changed[i] = random.choice(_EDGES)
    return bytes(changed)


def fill(random: Random, data: bytes) -> bytes:
    """A stretch becomes zeros, ones or noise."""
    at = random.randrange(len(data))
    length = random.randint(1, _FILL)
    filling = random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))
    return data[:at] + filling + data[at + length :]


def insert(random: Random, data: bytes) -> bytes:
    """Bytes more than there were."""
    at = random.randrange(len(data))
    return data[:at] + random.randbytes(random.randint(1, _FILL)) + data[at:]


def repeat(random: Random, data: bytes) -> bytes:
    """A stretch stands there again, once or often."""
    start = random.randrange(len(data))
    end = min(len(data), start + random.randint(1, 4 * _FILL))
    return data[:end] + data[start:end] * random.choice((1, 1, 2, 50)) + data[end:]


PLAIN: tuple[Mutation, ...] = (flip_bits, truncate, edit_header, fill, insert, repeat)


def edit_length(random: Random, data: bytes, blocks: Sequence[Block]) -> bytes:
    """A block's length is not that of the block: a little off, nothing, or far more than there is."""
    block = random.choice(blocks)
    changed = bytearray(data)
    size = struct.calcsize(block.length_format)
    [length] = struct.unpack_from(block.length_format, data, block.length_at)
    most = (1 << 8 * size) - 1
    wanted = random.choice((0, 1, length - 1, length + 1, length * 2, most, most >> 1, (most >> 1) + 1, random.randint(0, most)))
    struct.pack_into(block.length_format, changed, block.length_at, max(0, wanted) & most)
    return bytes(changed)


def rearrange(random: Random, data: bytes, blocks: Sequence[Block]) -> bytes:
    """A block is dropped, or stands twice or often, or in another's place."""
    block, other = random.choice(blocks), random.choice(blocks)
    content = data[block.start : block.end]
    match random.randrange(4):
        case 0:
            return data[: block.start] + data[block.end :]
        case 1:
            return data[: block.end] + content + data[block.end :]
        case 2:
            return data[: block.end] + content * random.choice((3, 100)) + data[block.end :]
        case _:
            return data[: other.start] + content + data[other.end :]


def splice(random: Random, data: bytes, other: bytes) -> bytes:
    """The head of one and the tail of the other."""
    return data[: random.randrange(1, len(data))] + other[random.randrange(len(other)) :]


def damaged(random: Random, data: bytes, blocks_of: Callable[[bytes], list[Block]] | None, others: Sequence[bytes]) -> bytes:
    """The file, damaged in one to three ways.

    Args:
        random: chooses.
        data: a whole file.
        blocks_of: finds its blocks; None: the format has none.
        others: whole files, of which it may get a tail; it is among them.
    """
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if len(data) < _LEAST:
            break
        blocks = blocks_of(data) if blocks_of else []
        choice = random.randrange(len(PLAIN) + (3 if blocks else 1))
        if choice < len(PLAIN):
            data = PLAIN[choice](random, data)
        elif choice == len(PLAIN):
            data = splice(random, data, random.choice(others))
        else:
            data = (edit_length if choice == len(PLAIN) + 1 else rearrange)(random, data, blocks)
    return data if data not in others else flip_bits(random, data)  # what was filled or put in another's place may be what was there


def jpeg_blocks(data: bytes) -> list[Block]:
    """The segments before the first scan's data."""
    blocks, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        [length] = struct.unpack_from(">H", data, at + 2)
        if at + 2 + length > len(data):
            break
        blocks.append(Block(at, at + 2 + length, at + 2, ">H"))
        if data[at + 1] == 0xDA:
            break
        at += 2 + length
    return blocks


def png_blocks(data: bytes) -> list[Block]:
    """The chunks, with length and checksum."""
    return list(_blocks(data, 8, ">I", lambda length: 12 + length, 0))


def riff_blocks(data: bytes) -> list[Block]:
    """The file itself, and its chunks."""
    return [Block(0, len(data), 4, "<I"), *_blocks(data, 12, "<I", lambda length: 8 + length + length % 2, 4)]


def mp4_blocks(data: bytes) -> list[Block]:
    """The boxes of the file, and those within `moov`, at any depth."""
    found = []
    waiting = [(0, len(data))]
    while waiting:
        start, end = waiting.pop()
        for block in _blocks(data[:end], start, ">I", lambda length: length, 0):
            found.append(block)
            if data[block.start + 4 : block.start + 8] in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta"):
                waiting.append((block.start + 8, block.end))
    return found


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks' checksums are right again: a decoder then goes on to what was damaged."""
    changed = bytearray(data)
    for block in png_blocks(data):
        struct.pack_into(">I", changed, block.end - 4, zlib.crc32(data[block.start + 4 : block.end - 4]))
    return bytes(changed)


def _blocks(data: bytes, start: int, length_format: str, whole: Callable[[int], int], length_at: int) -> Iterator[Block]:
    at = start
    while at + 8 <= len(data):
        [length] = struct.unpack_from(length_format, data, at + length_at)
        end = at + whole(length)
        if not at + 8 <= end <= len(data):
            return
        yield Block(at, end, at + length_at, length_format)
        at = end
