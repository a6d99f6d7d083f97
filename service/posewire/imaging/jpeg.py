"""Read the header of a JPEG, and refuse a JPEG that is cut short.

libjpeg fills what is missing with grey and only prints a warning, so the two functions that look for the end of the data are
ours: `prepare` makes OpenCV fail on a cut baseline file, and asks simplejpeg about files of several scans.
"""

import re
import struct
from collections.abc import Iterator
from typing import Final

import simplejpeg

from posewire.errors import BadPicture
from posewire.imaging.header import DAMAGED, Header

# A marker, as libjpeg defines it, is any run of 0xFF and then the code. 0xFF00 is a stuffed byte of the entropy-coded data.
# Restart codes (0xD0 to 0xD7) and reserved codes (below 0xC0) have no length to skip. One regular expression skips
# megabytes without a marker at C speed.
_MARKER: Final = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_JPEG_LS: Final = 0xF7
_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {_JPEG_LS}  # SOF; the others are DHT, JPG, DAC
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})  # with Huffman codes
_LOSSLESS: Final = frozenset({0xC3, 0xCB})
_HIERARCHICAL: Final = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF})
_END: Final = 0xD9
_SCAN: Final = 0xDA
_MAX_SCANS: Final = 100  # encoders write about 10
_MAX_SEGMENTS: Final = 2000  # a profile and EXIF take at most 300

# libjpeg fills a register of 64 bits before it decodes a code: with 8 more bytes it gets to the end of complete data.
_PADDING: Final = bytes(8)


def read_header(view: memoryview) -> Header:
    """Read the size from the frame header, and count the scans. Headers inside another segment (an EXIF thumbnail) are skipped.

    Raises:
        BadPicture: there is no frame header, or there are too many segments.
        struct.error: the bytes end within a segment's header.
    """
    header: Header | None = None
    one_scan = False  # the first scan has all components of a sequential frame
    components = scans = 0
    scan_end: int | None = None
    for marker, start in _segments(view):
        if scans == 1 and scan_end is None:
            scan_end = start - 2
        if marker in _FRAME_HEADERS:
            if header is not None:  # libjpeg rejects a second one, too
                return header._replace(problem=DAMAGED)
            precision, height, width, components = struct.unpack_from(">BHHB", view, start + 2)
            header = Header(width, height, _unsupported(marker, precision))
            one_scan = marker in _SEQUENTIAL
        if marker == _SCAN:
            scans += 1
            (components_of_scan,) = struct.unpack_from("B", view, start + 2)
            one_scan = one_scan and scans == 1 and components_of_scan == components
        if marker == _END or scans > _MAX_SCANS:
            break
    if header is None:
        raise BadPicture(DAMAGED)
    if scans > _MAX_SCANS and header.problem is None:
        header = header._replace(problem=f"the JPEG has more than {_MAX_SCANS} scans; save it as a baseline JPEG")
    return header._replace(scans=max(scans, 1), scan_end=scan_end if one_scan else None)


def prepare(view: memoryview, header: Header) -> bytes | memoryview:
    """Return the bytes for OpenCV, which decodes them as the file if the file is complete, and else fails.

    A file of one sequential scan ends after its entropy-coded data: OpenCV waits for more data and gives up if the data do not
    fill the image. libjpeg decodes any other file only up to an end marker, so simplejpeg checks it.

    Raises:
        BadPicture: a scan is cut short.
    """
    if header.scan_end is not None:
        return b"".join([view[: header.scan_end], _PADDING])
    if _ends_early(view):
        raise BadPicture(DAMAGED)
    return view


def _segments(view: memoryview) -> Iterator[tuple[int, int]]:
    """Yield each marker code with the offset of its segment's two length bytes."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(view, at)
        if found is None:
            return
        at = found.end()
        yield view[at - 1], at
        (length,) = struct.unpack_from(">H", view, at)
        at += max(length, 2)
    raise BadPicture(DAMAGED)


def _unsupported(marker: int, precision: int) -> str | None:
    """Name the kind of JPEG if OpenCV cannot decode it."""
    if marker == _JPEG_LS:
        kind = "a JPEG-LS"
    elif marker in _LOSSLESS:
        kind = "a lossless JPEG"
    elif marker in _HIERARCHICAL:
        kind = "a hierarchical JPEG"
    elif precision != 8:
        kind = f"a JPEG with {precision} bits a sample"
    else:
        return None
    return f"found {kind}; send a baseline or progressive JPEG with 8 bits a sample"


def _ends_early(view: memoryview) -> bool:
    """Return True if a scan has too few data."""
    try:  # at an eighth of the size: only the entropy code is decoded completely
        simplejpeg.decode_jpeg(view, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:  # also for what OpenCV forgives, such as a few bytes too many
        return "premature end" in str(error).lower()
    return False
