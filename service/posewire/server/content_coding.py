"""The content codings of request bodies: gzip and deflate, undone piece by piece."""

import zlib
from collections.abc import Iterator

from starlette.datastructures import Headers

from posewire.errors import BadBody, UnsupportedEncoding

# The size of a piece: about a millisecond of work, so that a body that inflates to a thousand times its size stops nobody.
_PIECE_BYTES = 256 * 1024

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS  # some clients send "deflate" without the header of zlib


class Inflater:
    """Undoes a content coding.

    Args:
        coding: "gzip" or "deflate".
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._head = b""  # until its two bytes show if there is a header of zlib
        self._member = zlib.decompressobj(_GZIP if coding == "gzip" else _ZLIB)
        self._started = self._ended = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the body contain, in pieces of at most 256 KiB.

        Raises:
            BadBody: the bytes are damaged, or have another coding.
        """
        if not self._started:
            self._head += data
            if len(self._head) < 2:
                return
            data, self._head, self._started = self._head, b"", True
            if self._coding == "deflate" and not _has_zlib_header(data):
                self._member = zlib.decompressobj(_RAW)
        full = False  # more may be ready inside of the decompressor
        while data or full:
            if self._ended:
                if self._coding == "deflate":
                    raise BadBody("bytes follow the end of the body's deflate data")
                self._member = zlib.decompressobj(_GZIP)  # gzip may have several members (RFC 1952, 2.2)
            try:
                piece = self._member.decompress(data, _PIECE_BYTES)
            except zlib.error:
                raise BadBody(f"the body's {self._coding} data are damaged, or not {self._coding}") from None
            self._ended = self._member.eof
            full = len(piece) == _PIECE_BYTES and not self._ended
            data = self._member.unused_data if self._ended else self._member.unconsumed_tail
            if piece:
                yield piece

    def finish(self) -> None:
        """Check that the data have ended.

        Raises:
            BadBody: they are cut short.
        """
        if not self._ended:
            raise BadBody(f"the body's {self._coding} data are cut short")


def inflater_of(headers: Headers) -> Inflater | None:
    """Return what undoes the content coding of a request; None: the body has none.

    Raises:
        UnsupportedEncoding: the body has another coding, or several.
    """
    given = ",".join(headers.getlist("content-encoding")).lower()
    codings = [coding.strip() for coding in given.split(",") if coding.strip() not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedEncoding(f"Content-Encoding: {given!a} is not supported: send gzip, deflate or no Content-Encoding")
    return Inflater(codings[0].removeprefix("x-"))  # x-gzip is gzip (RFC 9110, 8.4.1.3)


def _has_zlib_header(data: bytes) -> bool:
    """Return True for the two bytes that begin zlib's format (RFC 1950, 2.2)."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
