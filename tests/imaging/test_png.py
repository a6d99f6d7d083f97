"""decode() of PNGs that inflate without end or to nothing, and of honest ones that look like them."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from posewire.errors import BadPicture
from posewire.imaging.decode import decode
from posewire.types import UInt8Array

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xaeB`\x82"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
NOISE: UInt8Array = np.random.default_rng(0).integers(0, 256, (700, 1000, 3), dtype=np.uint8)  # does not compress: 2.1 MB
SMALL = NOISE[:10, :10]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def rows_of(pixels: np.ndarray[Any, Any], interlaced: bool) -> bytes:
    """All rows of the image, each after a filter byte: 0, no filter. 16-bit samples are big-endian."""
    passes = [pixels[y::down, x::right] for x, y, right, down in ADAM7] if interlaced else [pixels]
    return b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for part in passes if part.size for row in part)


def png(pixels: np.ndarray[Any, Any], *, interlaced: bool = False, excess: bytes = b"", before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of RGB pixels (H, W, 3), whose compressed data go on with `excess` after the last row."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8 * pixels.itemsize, 2, 0, 0, interlaced)
    data = zlib.compress(rows_of(pixels, interlaced) + excess, 1)
    return SIGNATURE + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + after + END


def pixels_of(data: bytes) -> UInt8Array:
    return decode(data, max_bytes=20_000_000, max_pixels=1_000_000).pixels


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("pixels", "excess"),
    [(SMALL, bytes(80_000_000)), (NOISE, NOISE.tobytes())],
    ids=["80 MB of zeros", "a second image"],
)
def test_data_after_the_last_row_are_refused(pixels: UInt8Array, excess: bytes, interlaced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the image reached the decoder"))
    with pytest.raises(BadPicture, match="more compressed data than its size needs"):
        pixels_of(png(pixels, interlaced=interlaced, excess=excess))


def png_of(pixels: UInt8Array, data: bytes) -> bytes:
    """A PNG of the size of `pixels`, with compressed data as they are."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", data) + END


def little_endian(*fields: tuple[int, int]) -> bytes:
    """Pack values of so many bits, the lowest bit of each first; all together are whole bytes."""
    value = bits = 0
    for number, width in fields:
        value |= number << bits
        bits += width
    assert bits % 8 == 0
    return value.to_bytes(bits // 8, "little")


# A dynamic block: 257 codes of literals, 1 of distances; the code lengths 18 (a run of zeros) and 1 have 1 bit each. The
# lengths are two runs of 138 and 118 zeros, a 1 for the end of a block, and a 1 for the distance; then comes that end.
EMPTY = (
    *((0, 1), (2, 2), (0, 5), (0, 5), (14, 4), (0, 6), (1, 3), (0, 42), (1, 3)),
    *((1, 1), (127, 7), (1, 1), (107, 7), (0, 1), (0, 1), (0, 1)),
)
EMPTY_BLOCKS = {
    "stored": b"\0\0\0\xff\xff",
    "with codes of their own": little_endian(*EMPTY * 8),
}
BEGINNING = b"\x78\x01"


def stored(pixels: UInt8Array) -> bytes:
    """The end of a zlib stream: the rows, not compressed."""
    rows = rows_of(pixels, False)
    deflater = zlib.compressobj(0, wbits=-15)
    return deflater.compress(rows) + deflater.flush() + struct.pack(">I", zlib.adler32(rows))


@pytest.mark.parametrize("pixels", [SMALL, NOISE[:40], NOISE], ids=["small", "120 kB", "2 MB"])
@pytest.mark.parametrize("name", EMPTY_BLOCKS)
def test_blocks_that_bring_nothing_are_refused(name: str, pixels: UInt8Array, monkeypatch: pytest.MonkeyPatch) -> None:
    block, end = EMPTY_BLOCKS[name], stored(pixels)
    few = png_of(pixels, BEGINNING + block * (1000 // len(block)) + end)
    np.testing.assert_array_equal(pixels_of(few), pixels)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the image reached the decoder"))
    with pytest.raises(BadPicture, match="more compressed data than its size needs"):
        pixels_of(png_of(pixels, BEGINNING + block * (2_000_000 // len(block)) + end))


def test_blocks_that_bring_nothing_are_refused_before_all_are_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    size, inflated = 2_000_000, 0
    make_inflater = zlib.decompressobj

    class Watched:
        def __init__(self) -> None:
            self._inflater = make_inflater()
            self.eof, self.unconsumed_tail = False, b""

        def decompress(self, data: bytes, length: int) -> bytes:
            nonlocal inflated
            inflated += len(data)
            return self._inflater.decompress(data, length)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    block = EMPTY_BLOCKS["with codes of their own"]
    with pytest.raises(BadPicture, match="more compressed data than its size needs"):
        pixels_of(png_of(NOISE, BEGINNING + block * (size // len(block))))
    assert 0 < inflated < 100_000


@pytest.mark.parametrize("end", [bytes(3_000_000), NOISE.tobytes()], ids=["zeros", "noise"])
def test_data_after_the_compressed_ones_are_refused(end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the image reached the decoder"))
    with pytest.raises(BadPicture, match="more compressed data than its size needs"):
        pixels_of(png_of(SMALL, BEGINNING + stored(SMALL) + end))


def test_zeros_after_rows_that_compress_well_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    deflater = zlib.compressobj(1)
    data = b"".join(deflater.compress(bytes(1_000_000)) for _ in range(400)) + deflater.flush()
    assert 1 << 20 < len(data) < NOISE.size  # more than is left unchecked, and less than the rows may have
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the image reached the decoder"))
    with pytest.raises(BadPicture, match="more compressed data than its size needs"):
        pixels_of(png_of(NOISE, data))


def test_data_in_many_chunks_are_added_up() -> None:
    whole = png(SMALL, excess=bytes(80_000_000))
    header, data = whole[:33], whole[41 : -len(END) - 4]
    with pytest.raises(BadPicture, match="more compressed data than its size needs"):
        pixels_of(header + b"".join(chunk(b"IDAT", data[at : at + 1000]) for at in range(0, len(data), 1000)) + END)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("pixels", [SMALL, NOISE, NOISE[:, :1], NOISE[:1]], ids=["small", "2 MB", "a column", "a row"])
def test_complete_data_are_decoded(pixels: UInt8Array, interlaced: bool) -> None:
    np.testing.assert_array_equal(pixels_of(png(pixels, interlaced=interlaced)), pixels)


@pytest.mark.parametrize("interlaced", [False, True])
def test_complete_data_of_16_bits_are_decoded(interlaced: bool) -> None:
    np.testing.assert_array_equal(pixels_of(png(NOISE.astype(np.uint16) << 8, interlaced=interlaced)), NOISE)


def test_data_that_are_flushed_after_every_row_are_decoded() -> None:
    deflater = zlib.compressobj(1)
    column = NOISE[:, :1]
    data = b"".join(deflater.compress(b"\0" + row.tobytes()) + deflater.flush(zlib.Z_FULL_FLUSH) for row in column) + deflater.flush()
    assert len(data) > 2 * column.size
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, len(column), 8, 2, 0, 0, 0))
    np.testing.assert_array_equal(pixels_of(SIGNATURE + header + chunk(b"IDAT", data) + END), column)


def test_a_few_bytes_after_the_last_row_are_forgiven() -> None:
    np.testing.assert_array_equal(pixels_of(png(SMALL, excess=bytes(100))), SMALL)


TEXT = zlib.compress(bytes(7_900_000))
COMPRESSED = {
    "zTXt": chunk(b"zTXt", b"k\0\0" + TEXT),
    "iTXt": chunk(b"iTXt", b"k\0\1\0\0\0" + TEXT),
    "iCCP": chunk(b"iCCP", b"k\0\0" + TEXT),
    "sPLT": chunk(b"sPLT", b"k\0\x08" + bytes(6)),
    "a chunk of a program": chunk(b"prVt", bytes(100)),
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", COMPRESSED)
def test_chunks_without_pixels_do_not_reach_the_decoder(name: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _watch(monkeypatch)
    chunks = COMPRESSED[name] * 10
    np.testing.assert_array_equal(pixels_of(png(SMALL, before=chunks) if place == "before" else png(SMALL, after=chunks)), SMALL)
    assert [bytes(data) for data in seen] == [png(SMALL)]


def test_orientation_reaches_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    file = io.BytesIO()
    Image.fromarray(SMALL).save(file, "PNG", exif=exif)
    data = file.getvalue()
    np.testing.assert_array_equal(pixels_of(data[:33] + COMPRESSED["zTXt"] + data[33:]), SMALL[::-1, ::-1])


def test_a_usual_file_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _watch(monkeypatch)
    data = png(SMALL)
    pixels_of(data)
    assert np.shares_memory(seen[0], np.frombuffer(data, np.uint8))


FRAME = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 10, 10, 0, 0, 1, 10, 0, 0))
FRAMES = b"".join(
    chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * i + 1, 10, 10, 0, 0, 1, 10, 0, 0))
    + chunk(b"fdAT", struct.pack(">I", 2 * i + 2) + zlib.compress(bytes(1_000_000)))
    for i in range(20)
)
ACTL = chunk(b"acTL", struct.pack(">II", 21, 0))


@pytest.mark.parametrize(
    "made",
    [lambda: png(SMALL, before=FRAME, after=FRAMES), lambda: png(SMALL, after=ACTL + FRAMES), lambda: png(SMALL, after=FRAMES)],
    ids=["no acTL", "acTL after the pixels", "frames after the pixels"],
)
def test_what_no_decoder_plays_is_a_still_image(made: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _watch(monkeypatch)
    np.testing.assert_array_equal(pixels_of(made()), SMALL)
    assert [bytes(data) for data in seen] == [png(SMALL)]


def test_an_animation_is_refused() -> None:
    with pytest.raises(BadPicture, match="one still frame"):
        pixels_of(png(SMALL, before=ACTL + FRAME, after=FRAMES))


def test_a_critical_chunk_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BadPicture, match="damaged"):
        pixels_of(png(SMALL, before=chunk(b"ABCD", bytes(10))))


def _watch(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray[Any, Any]]:
    """Return the list of what OpenCV is asked to decode, filled as it is asked."""
    seen: list[np.ndarray[Any, Any]] = []
    imdecode = cv2.imdecode

    def watched(data: np.ndarray[Any, Any], flags: int) -> Any:
        seen.append(data)
        return imdecode(data, flags)

    monkeypatch.setattr(cv2, "imdecode", watched)
    return seen
