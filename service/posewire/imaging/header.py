"""The header of an encoded image."""

from typing import Final, NamedTuple

DAMAGED: Final = "the image is damaged or cut short; send the whole file again"
ANIMATED: Final = "the image is an animation; send one still frame"


class Header(NamedTuple):
    """The size of an image and what decides about the work of decoding it, read before anything is decoded."""

    width: int  # pixels, as stored: before EXIF orientation
    height: int  # pixels, as stored
    problem: str | None = None  # the reason why it cannot be decoded, if the header already shows one
    hidden: int = 0  # pixels that are decoded, and not returned
    scans: int = 1  # passes over the whole image: those of a JPEG
    scan_end: int | None = None  # of a JPEG whose samples are all in one sequential scan: the offset of the marker after it
