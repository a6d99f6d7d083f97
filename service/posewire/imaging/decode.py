"""Decode encoded images into upright RGB frames.

The bytes are untrusted. The format is taken from the bytes alone. The size is read from the header and checked before
anything is allocated. Only then does OpenCV's decoder see the bytes.

The headers are read here and not by `imagesize`, because `imagesize` fails for each format: it counts WebP's scale bits and
the 16-bit fields of OS/2 bitmaps as part of the size, holds the GIL for seconds on a JPEG of 20 MB of empty segments, and
detects neither an animation nor a PNG chunk that claims gigabytes. Each reader below finds the same header as the decoder
after it (libjpeg-turbo, OpenCV's chunk reader, libwebp).
"""

import codecs
import re
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import cv2
import numpy as np

from posewire.errors import BadPicture, TooLarge
from posewire.types import Frame, UInt8Array

# A damaged image is reported to its sender by BadPicture, not in our log. The level holds for the whole process.
# libpng and libjpeg print some messages themselves ("libpng error: …"); those do not pass through OpenCV's log and stay.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_FATAL)

SUPPORTED: Final = "JPEG, PNG, WebP or BMP"
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_BMP_HEADER_SIZES: Final = frozenset({12, 40, 52, 56, 64, 108, 124})  # many texts also begin with "BM"
_HEAD_BYTES: Final = 64  # enough to recognise every format

# A marker, as libjpeg defines it, is any run of 0xFF and then the code. 0xFF00 is a stuffed byte of the entropy-coded data.
# Restart codes (0xD0 to 0xD7) and reserved codes (below 0xC0) have no length to skip. One regular expression skips
# megabytes without a marker at C speed.
_JPEG_MARKER: Final = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_JPEG_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the others are DHT, JPG, DAC
_JPEG_END: Final = 0xD9
_JPEG_SCAN: Final = 0xDA
# Each scan is a pass over the whole image, even if it has few bytes: a megabyte of 30-byte scans keeps a core busy for
# minutes. Encoders write about 10 scans.
_MAX_JPEG_SCANS: Final = 100
_MAX_JPEG_SEGMENTS: Final = 2000  # a profile and EXIF take at most 300
_MAX_PNG_CHUNKS: Final = 100_000  # libpng writes chunks of 8 KiB; a walk this long takes 30 ms

_DAMAGED: Final = "the picture is damaged or cut short; send the whole file again"
_ANIMATED: Final = "the picture is an animation; send one still frame"


class _Header(NamedTuple):
    width: int  # pixels, as stored: before EXIF orientation
    height: int  # pixels, as stored
    problem: str | None = None  # the reason why it cannot be decoded, if the header already shows one


def sniff(data: bytes | memoryview) -> str | None:
    """Return the media type of an encoded image, from its first bytes.

    Returns:
        "image/jpeg", "image/png", "image/webp" or "image/bmp"; None for anything else. Never raises.
    """
    head = bytes(data[:_HEAD_BYTES])
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(_PNG_SIGNATURE):
        return "image/png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith(b"BM") and len(head) >= 18 and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "image/bmp"
    return None


def decode(data: bytes | memoryview, *, max_bytes: int, max_pixels: int) -> Frame:
    """Decode one still image.

    EXIF orientation is applied. Grey, palette, CMYK and 16-bit images become 8-bit RGB. An alpha channel is dropped, not
    blended: a transparent pixel has the colour that is stored for it. Colour profiles are not applied.

    Args:
        data: the encoded image; a memoryview must be contiguous and is not copied.
        max_bytes: the limit for the size of `data`.
        max_pixels: the limit for width times height, as the header states them.

    Returns:
        A frame of (H, W, 3) uint8 RGB, C-contiguous, upright: x to the right, y down.

    Raises:
        TooLarge: more bytes or pixels than allowed; nothing has been decoded.
        BadPicture: not a still JPEG, PNG, WebP or BMP, or damaged.
    """
    view = memoryview(data)
    return Frame(_decode_pixels(view, _checked_header(view, max_bytes, max_pixels)))


def count_pixels(data: bytes | memoryview, *, max_bytes: int, max_pixels: int) -> int:
    """Return the number of pixels that `decode` will produce, from the header alone; raises the same errors as `decode`."""
    header = _checked_header(memoryview(data), max_bytes, max_pixels)
    return header.width * header.height


def _checked_header(view: memoryview, max_bytes: int, max_pixels: int) -> _Header:
    if view.nbytes > max_bytes:
        raise TooLarge(f"the picture has {view.nbytes:,} bytes; at most {max_bytes:,} are taken")
    header = _read_header(view)
    if header.width <= 0 or header.height <= 0:
        raise BadPicture(f"the picture's header says {header.width} x {header.height} px; the file is damaged or cut short")
    if header.width * header.height > max_pixels:
        raise TooLarge(f"the picture has {header.width} x {header.height} px; at most {max_pixels:,} pixels are taken")
    if header.problem is not None:
        raise BadPicture(header.problem)
    return header


def _decode_pixels(view: memoryview, header: _Header) -> UInt8Array:
    """Decode into (H, W, 3) uint8 RGB, upright."""
    try:
        pixels = cv2.imdecode(np.frombuffer(view, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        raise BadPicture(_DAMAGED) from None
    if pixels is None:
        raise BadPicture(_DAMAGED)
    # EXIF orientation may have swapped the sides. Any other size means that OpenCV read another header than we did.
    if pixels.shape not in {(header.height, header.width, 3), (header.width, header.height, 3)}:
        raise BadPicture(f"the picture's size is not the {header.width} x {header.height} px of its header; the file is damaged")
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _read_header(view: memoryview) -> _Header:
    media_type = sniff(view)
    if media_type is None:
        raise BadPicture(f"found {_describe(bytes(view[:_HEAD_BYTES]))}; send a still {SUPPORTED} picture")
    try:
        return _READERS[media_type](view)
    except struct.error:  # the bytes end within the header
        raise BadPicture(_DAMAGED) from None


def _jpeg_header(view: memoryview) -> _Header:
    """Read the size from the frame header. Headers inside another segment (an EXIF thumbnail) are skipped."""
    header: _Header | None = None
    scans = 0
    for marker, start in _jpeg_segments(view):
        if marker in _JPEG_FRAME_HEADERS:
            if header is not None:  # libjpeg rejects a second one, too
                return header._replace(problem=_DAMAGED)
            height, width = struct.unpack_from(">HH", view, start + 3)
            header = _Header(width, height)
        scans += marker == _JPEG_SCAN
        if marker == _JPEG_END or scans > _MAX_JPEG_SCANS:
            break
    if header is None:
        raise BadPicture(_DAMAGED)
    if scans > _MAX_JPEG_SCANS:
        return header._replace(problem=f"the JPEG has more than {_MAX_JPEG_SCANS} scans; save it as a baseline JPEG")
    return header


def _jpeg_segments(view: memoryview) -> Iterator[tuple[int, int]]:
    """Yield each marker code with the offset of its segment's two length bytes."""
    at = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(view, at)
        if found is None:
            return
        at = found.end()
        yield view[at - 1], at
        (length,) = struct.unpack_from(">H", view, at)
        at += max(length, 2)
    raise BadPicture(_DAMAGED)


def _png_header(view: memoryview) -> _Header:
    """Read the size from IHDR, then look for an animation and for chunks that are longer than the file.

    OpenCV allocates the size that a chunk claims, up to 2 GiB, before it checks that the bytes exist.
    """
    length, kind, width, height = struct.unpack_from(">I4sII", view, len(_PNG_SIGNATURE))
    if (length, kind) != (13, b"IHDR"):
        raise BadPicture(_DAMAGED)
    before_pixels = True
    at = len(_PNG_SIGNATURE) + 12 + length
    for _ in range(_MAX_PNG_CHUNKS):
        if at + 12 > view.nbytes:
            break
        length, kind = struct.unpack_from(">I4s", view, at)
        at += 12 + length
        if at > view.nbytes:
            break
        if kind == b"IEND":
            return _Header(width, height)
        if kind == b"acTL" and before_pixels:  # after the pixels it has no meaning
            return _Header(width, height, _ANIMATED)
        before_pixels = before_pixels and kind != b"IDAT"
    return _Header(width, height, _DAMAGED)


def _webp_header(view: memoryview) -> _Header:
    """Read the size from the first chunk; libwebp rejects a VP8X canvas whose size differs from that of the image in it."""
    (kind,) = struct.unpack_from("4s", view, 12)
    if kind == b"VP8X":
        flags, wide, high = struct.unpack_from("<B3x3s3s", view, 20)
        problem = _ANIMATED if flags & 0x02 else None
        return _Header(int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1, problem)
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", view, 20)
        if signature == 0x2F:
            return _Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        start_code, width, height = struct.unpack_from("<3sHH", view, 23)
        if start_code == b"\x9d\x01\x2a":
            return _Header(width & 0x3FFF, height & 0x3FFF)  # the two bits above are a hint for upscaling
    raise BadPicture(_DAMAGED)


def _bmp_header(view: memoryview) -> _Header:
    """Read the size from the DIB header; a negative height is legal and means that the top row comes first."""
    if view[14] == 12:  # the OS/2 header
        width, height = struct.unpack_from("<HH", view, 18)
    else:
        width, height = struct.unpack_from("<ii", view, 18)
    return _Header(width, abs(height))


_READERS: Final[dict[str, Callable[[memoryview], _Header]]] = {
    "image/jpeg": _jpeg_header,
    "image/png": _png_header,
    "image/webp": _webp_header,
    "image/bmp": _bmp_header,
}

_OTHERS: Final = (
    (b"GIF8", "a GIF"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL"),
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x1aE\xdf\xa3", "a WebM or Matroska video"),
)


def _describe(head: bytes) -> str:
    """Name the kind of data that begins with these bytes, for the error message."""
    if not head:
        return "nothing (0 bytes)"
    for magic, name in _OTHERS:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return {b"avi": "an AVIF", b"hei": "a HEIC", b"mif": "a HEIC"}.get(head[8:11], "an MP4 or QuickTime video")
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # an incomplete character at the end is no error
    except UnicodeDecodeError:
        return "bytes of an unknown kind"
    return "text" if all(character.isprintable() or character.isspace() for character in text) else "bytes of an unknown kind"
