"""Decode encoded images into upright RGB frames.

The bytes are untrusted. The format is taken from the bytes alone. The size is read from the header and checked before
anything is allocated. What would make a decoder work longer than the size explains is refused or left out. Only then does a
decoder see the bytes: OpenCV, or for HEIC and AVIF the libraries of the extra `heif`.

The headers are read here and not by `imagesize`, because `imagesize` fails for each format: it counts WebP's scale bits and
the 16-bit fields of OS/2 bitmaps as part of the size, holds the GIL for seconds on a JPEG of 20 MB of empty segments, and
detects neither an animation nor a PNG chunk that claims gigabytes. Each reader finds the same header as the decoder
after it (libjpeg-turbo, OpenCV's chunk reader, libwebp). WebP and BMP need no more than the size: libwebp skips what is not the
still image, and both decoders take less than 1 s for 50 megapixels, whatever 20 MB hold.
"""

import codecs
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

import cv2
import numpy as np

from posewire.errors import BadPicture, OutOfMemory, TooLarge
from posewire.imaging import heif, jpeg, png
from posewire.imaging.header import ANIMATED, DAMAGED, Header
from posewire.types import Frame, UInt8Array

# A damaged image is reported to its sender by BadPicture, not in our log. The level holds for the whole process.
# libpng and libjpeg print some messages themselves ("libpng error: …"); those do not pass through OpenCV's log and stay.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_FATAL)

SUPPORTED: Final = "JPEG, PNG, WebP or BMP"
_BMP_HEADER_SIZES: Final = frozenset({12, 40, 52, 56, 64, 108, 124})  # many texts also begin with "BM"
_HEAD_BYTES: Final = 64  # enough to recognise every format

# Each scan of a JPEG is a pass over the whole image, even if it has few bytes. Twenty passes over 50 megapixels take 2 s.
_MAX_FULL_SCANS: Final = 20  # of an image of the maximum size; a smaller one may have more

# What OpenCV and libjpeg allocate for a pixel of a progressive JPEG: 3 samples, and 3 coefficients of 2 bytes.
_DECODE_BYTES: Final = 9
_THREAD_BYTES: Final = 32 << 20  # for any image: the decoder of AVIF starts threads


def sniff(data: bytes | memoryview) -> str | None:
    """Return the media type of an encoded image, from its first bytes.

    Returns:
        "image/jpeg", "image/png", "image/webp", "image/bmp", "image/heic" or "image/avif"; None for anything else. Never raises.
    """
    head = bytes(data[:_HEAD_BYTES])
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(png.SIGNATURE):
        return "image/png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith(b"BM") and len(head) >= 18 and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "image/bmp"
    return heif.sniff(head)


def decode(data: bytes | memoryview, *, max_bytes: int, max_pixels: int) -> Frame:
    """Decode one still image.

    EXIF orientation is applied. Grey, palette, CMYK and 16-bit images become 8-bit RGB. An alpha channel is dropped, not
    blended: a transparent pixel has the colour that is stored for it. Colour profiles are not applied.

    Args:
        data: the encoded image; a memoryview must be contiguous.
        max_bytes: the limit for the size of `data`.
        max_pixels: the limit for width times height, as the header states them, and for what is decoded and then cropped.

    Returns:
        A frame of (H, W, 3) uint8 RGB, C-contiguous, upright: x to the right, y down.

    Raises:
        TooLarge: more bytes or pixels than allowed; nothing has been decoded.
        BadPicture: not a still JPEG, PNG, WebP or BMP (HEIC and AVIF with the extra `heif`), or damaged, or cut short.
        OutOfMemory: there is not enough memory.
    """
    view = memoryview(data)
    image_format = _format_of(view)
    header = _checked_header(view, image_format, max_bytes, max_pixels)
    try:
        return Frame(_checked_size(image_format.decode(view, header), header))
    except MemoryError:
        raise OutOfMemory from None
    except BadPicture as error:  # the libraries report damage and a lack of memory alike
        raise (error if _has_memory(header) else OutOfMemory()) from None


def count_pixels(data: bytes | memoryview, *, max_bytes: int, max_pixels: int) -> int:
    """Return the number of pixels that `decode` will decode, from the header alone; raises the same errors as `decode`."""
    view = memoryview(data)
    header = _checked_header(view, _format_of(view), max_bytes, max_pixels)
    return header.width * header.height + header.hidden


class _Format(NamedTuple):
    read_header: Callable[[memoryview], Header]
    decode: Callable[[memoryview, Header], UInt8Array]  # into (H, W, 3) uint8 RGB, upright


def _format_of(view: memoryview) -> _Format:
    media_type = sniff(view)
    if media_type is None:
        raise BadPicture(f"found {_describe(bytes(view[:_HEAD_BYTES]))}; send a still {SUPPORTED} image")
    return _FORMATS[media_type]


def _checked_header(view: memoryview, image_format: _Format, max_bytes: int, max_pixels: int) -> Header:
    if view.nbytes > max_bytes:
        raise TooLarge(f"the image has {view.nbytes:,} bytes; at most {max_bytes:,} are taken")
    try:
        header = image_format.read_header(view)
    except struct.error:  # the bytes end within the header
        raise BadPicture(DAMAGED) from None
    pixels = header.width * header.height
    if header.width <= 0 or header.height <= 0:
        raise BadPicture(f"the image's header says {header.width} x {header.height} px; the file is damaged or cut short")
    if pixels > max_pixels:
        raise TooLarge(f"the image has {header.width} x {header.height} px; at most {max_pixels:,} pixels are taken")
    if pixels + header.hidden > max_pixels:
        raise TooLarge(f"the image has {pixels:,} px, and {header.hidden:,} more that are cropped; at most {max_pixels:,} pixels are taken")
    if header.problem is not None:
        raise BadPicture(header.problem)
    if header.scans * pixels > _MAX_FULL_SCANS * max_pixels:
        raise BadPicture(f"the JPEG has {header.scans} scans of {pixels:,} pixels; save it as a baseline JPEG")
    return header


def _checked_size(pixels: UInt8Array, header: Header) -> UInt8Array:
    """Return the pixels as they are. Orientation may have swapped the sides; any other size comes from another header than ours."""
    if pixels.shape not in {(header.height, header.width, 3), (header.width, header.height, 3)}:
        raise BadPicture(f"the image's size is not the {header.width} x {header.height} px of its header; the file is damaged")
    return pixels


def _has_memory(header: Header) -> bool:
    """Return True if what a decoder of this image needs could be allocated now."""
    try:
        np.empty(_THREAD_BYTES + _DECODE_BYTES * (header.width * header.height + header.hidden), np.uint8)
    except MemoryError:
        return False
    return True


def _decode_jpeg(view: memoryview, header: Header) -> UInt8Array:
    return _decode_by_opencv(jpeg.prepare(view, header), header)


def _decode_png(view: memoryview, header: Header) -> UInt8Array:
    return _decode_by_opencv(png.prepare(view, header), header)


def _decode_by_opencv(data: bytes | memoryview, _: Header) -> UInt8Array:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise OutOfMemory if error.code == cv2.Error.StsNoMem else BadPicture(DAMAGED) from None
    if pixels is None:
        raise BadPicture(DAMAGED)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _webp_header(view: memoryview) -> Header:
    """Read the size from the first chunk; libwebp rejects a VP8X canvas whose size differs from that of the image in it."""
    (kind,) = struct.unpack_from("4s", view, 12)
    if kind == b"VP8X":
        flags, wide, high = struct.unpack_from("<B3x3s3s", view, 20)
        problem = ANIMATED if flags & 0x02 else None
        return Header(int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1, problem)
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", view, 20)
        if signature == 0x2F:
            return Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        start_code, width, height = struct.unpack_from("<3sHH", view, 23)
        if start_code == b"\x9d\x01\x2a":
            return Header(width & 0x3FFF, height & 0x3FFF)  # the two bits above are a hint for upscaling
    raise BadPicture(DAMAGED)


def _bmp_header(view: memoryview) -> Header:
    """Read the size from the DIB header; a negative height is legal and means that the top row comes first."""
    if view[14] == 12:  # the OS/2 header
        width, height = struct.unpack_from("<HH", view, 18)
    else:
        width, height = struct.unpack_from("<ii", view, 18)
    return Header(width, abs(height))


_FORMATS: Final[dict[str, _Format]] = {
    "image/jpeg": _Format(jpeg.read_header, _decode_jpeg),
    "image/png": _Format(png.read_header, _decode_png),
    "image/webp": _Format(_webp_header, _decode_by_opencv),
    "image/bmp": _Format(_bmp_header, _decode_by_opencv),
    "image/heic": _Format(heif.read_heic, heif.decode_heic),
    "image/avif": _Format(heif.read_avif, heif.decode_avif),
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
        return "an MP4 or QuickTime video"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # an incomplete character at the end is no error
    except UnicodeDecodeError:
        return "bytes of an unknown kind"
    return "text" if all(character.isprintable() or character.isspace() for character in text) else "bytes of an unknown kind"
