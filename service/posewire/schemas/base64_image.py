"""Images as texts in JSON: base64, or a `data:` URL of base64."""

import binascii
import re

_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")
_DATA_URL = re.compile(r"\s*data:[^,]{0,256};base64,", re.IGNORECASE)


def decode_base64(text: str) -> bytes:
    """Decode base64 of any of its common forms: a data: URL, with line breaks, without padding, of the URL-safe alphabet (RFC 4648, 5).

    Raises:
        ValueError: it is not base64.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        start = url.end() if (url := _DATA_URL.match(text)) else 0
        plain = text[start:].encode("ascii").translate(_STANDARD_ALPHABET, b" \t\r\n").rstrip(b"=")
        return binascii.a2b_base64(plain + b"=" * (-len(plain) % 4), strict_mode=True)
