"""Read the header of a JPEG, and refuse a JPEG that is cut short.

libjpeg fills what is missing with grey and only prints a warning, so the functions that look for the end of the data are
ours: `read_header` adds up what the scans bring, `prepare` makes OpenCV fail on a cut baseline file, and asks simplejpeg about
files of several scans. Arithmetic-coded files are refused: their decoder goes on with zeros where the data end, as the standard
says, so a cut one cannot be distinguished from a whole one.
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
_ARITHMETIC: Final = frozenset({0xC9, 0xCA})  # sequential and progressive
_COEFFICIENTS: Final = 64  # of a block
_MAX_COMPONENTS: Final = 4  # of a scan
_UNSENT: Final = 14  # more than the lowest bit that a scan may send of a coefficient, which is 13
_END: Final = 0xD9
_SCAN: Final = 0xDA
_MAX_SCANS: Final = 100  # encoders write about 10
_MAX_SEGMENTS: Final = 2000  # a profile and EXIF take at most 300

# libjpeg fills a register of 64 bits before it decodes a code: with 8 more bytes it gets to the end of complete data.
_PADDING: Final = bytes(8)


def read_header(view: memoryview) -> Header:
    """Read the size from the frame header, and look at all scans. Headers inside another segment (an EXIF thumbnail) are skipped.

    Raises:
        BadPicture: there is no frame header, or there are too many segments.
        struct.error: the bytes end within a segment's header.
    """
    header: Header | None = None
    sent: _Sent | None = None
    scans = 0
    scan_end: int | None = None
    for marker, start in _segments(view):
        if scans == 1 and scan_end is None:
            scan_end = start - 2
        if marker in _FRAME_HEADERS:
            if header is not None:  # libjpeg rejects a second one, too
                return header._replace(problem=DAMAGED)
            precision, height, width, components = struct.unpack_from(">BHHB", view, start + 2)
            header = Header(width, height, _unsupported(marker, precision))
            sent = _Sent(struct.unpack_from("Bxx" * components, view, start + 8), sequential=marker in _SEQUENTIAL)
        if marker == _SCAN:
            scans += 1
            if sent is not None:
                sent.add_scan(view, start + 2)
        if marker == _END or scans > _MAX_SCANS:
            break
    if header is None or sent is None:
        raise BadPicture(DAMAGED)
    if header.problem is None:
        if scans > _MAX_SCANS:
            header = header._replace(problem=f"the JPEG has more than {_MAX_SCANS} scans; save it as a baseline JPEG")
        elif not sent.complete:
            header = header._replace(problem=DAMAGED)
    return header._replace(scans=max(scans, 1), scan_end=scan_end if sent.at_once else None)


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


class _Sent:
    """Which coefficients of each component the scans have brought so far, and down to which bit.

    Args:
        components: the identifier of each component, as the frame header has them.
        sequential: each scan brings all bits of all coefficients of its components.
    """

    def __init__(self, components: tuple[int, ...], *, sequential: bool) -> None:
        self._components = components
        self._sequential = sequential
        self._lowest = [[_UNSENT] * _COEFFICIENTS for _ in components]  # bit that was sent of each coefficient
        self._scans = 0
        self.at_once = False  # True while the only scan is sequential and has all components

    @property
    def complete(self) -> bool:
        """True if nothing is missing of any component."""
        return not any(map(any, self._lowest))

    def add_scan(self, view: memoryview, at: int) -> None:
        """Add what a scan brings, by its header, which begins after its length.

        Raises:
            struct.error: the bytes end within the header.
        """
        (count,) = struct.unpack_from("B", view, at)
        names = struct.unpack_from("Bx" * count, view, at + 1)
        first, last, bits = struct.unpack_from("BBB", view, at + 1 + 2 * count)
        low = bits & 0x0F
        if self._sequential:  # libjpeg does not look at the three values, and some writers leave them 0
            first, last, low = 0, _COEFFICIENTS - 1, 0
        self._scans += 1
        self.at_once = self._sequential and self._scans == 1 and count == len(self._components)
        if count > _MAX_COMPONENTS:
            return  # libjpeg rejects the scan
        waiting = list(range(len(self._components)))
        for name in names:  # components with the same name follow one another, as in libjpeg
            index = next((index for index in waiting if self._components[index] == name), None)
            if index is None:
                return  # libjpeg rejects this, too
            waiting.remove(index)
            span = range(first, min(last + 1, _COEFFICIENTS))
            self._lowest[index][span.start : span.stop] = [low] * len(span)


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
    """Name the kind of JPEG if it cannot be decoded, or if a cut file of this kind cannot be detected."""
    if marker == _JPEG_LS:
        kind = "a JPEG-LS"
    elif marker in _LOSSLESS:
        kind = "a lossless JPEG"
    elif marker in _HIERARCHICAL:
        kind = "a hierarchical JPEG"
    elif marker in _ARITHMETIC:
        kind = "an arithmetic-coded JPEG"
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
