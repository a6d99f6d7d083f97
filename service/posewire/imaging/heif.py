"""Decode HEIC (HEVC) by pillow-heif and AVIF (AV1) by Pillow, if the extra `heif` is installed.

Both read the size without decoding. libheif refuses a bitstream that is larger than the header says; libavif decodes at most
16384 x 16384 pixels for an item. What both decode and do not show is counted by `heif_items.py`. The container states the rotation
and the mirroring (`irot`, `imir`), and an EXIF orientation beside them has no meaning (ISO/IEC 23008-12): pillow-heif applies them,
Pillow turns those of an AVIF into an orientation.
"""

import io
from typing import TYPE_CHECKING, Final

import numpy as np

from posewire.errors import BadPicture, OutOfMemory
from posewire.imaging.header import ANIMATED, DAMAGED, Header
from posewire.imaging.heif_items import count_decoded
from posewire.types import UInt8Array

if TYPE_CHECKING:
    from PIL.AvifImagePlugin import AvifImageFile
    from pillow_heif import HeifFile

_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_GENERAL_BRANDS: Final = frozenset({b"mif1", b"mif2", b"msf1"})  # of any codec: the compatible brands name it
_SEQUENCES: Final = frozenset({b"avis", b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"})


def sniff(head: bytes) -> str | None:
    """Return "image/heic" or "image/avif" by the `ftyp` box at the beginning of a file, else None."""
    if head[4:8] != b"ftyp":
        return None
    major = head[8:12]
    if major in _AVIF_BRANDS:
        return "image/avif"
    if major in _HEIC_BRANDS:
        return "image/heic"
    if major in _GENERAL_BRANDS:
        end = min(int.from_bytes(head[:4]), len(head))
        compatible = {head[at : at + 4] for at in range(16, end - 3, 4)}
        return "image/avif" if compatible & _AVIF_BRANDS else "image/heic"
    return None


def read_heic(view: memoryview) -> Header:
    """Read the size of a HEIC, as it is shown, and what is decoded beside it; `decode_heic` explains the errors."""
    width, height = _open_heic(view).size
    return Header(width, height, _animation(view), _hidden(view, width * height))


def decode_heic(view: memoryview, _: Header) -> UInt8Array:
    """Decode a HEIC into (H, W, 3) uint8 RGB, upright.

    Raises:
        BadPicture: pillow-heif is not installed, or cannot decode the file.
        OutOfMemory: there is not enough memory.
    """
    image = _open_heic(view)
    try:
        pixels = np.asarray(image)
    except MemoryError:
        raise OutOfMemory from None
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:
        raise _error_of(error) from None
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8:  # 10 and 12 bits of a grey image, in 16
        pixels = pixels >> 8
    colours = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(colours, np.uint8)


def read_avif(view: memoryview) -> Header:
    """Read the size of an AVIF, as stored, and what is decoded beside it; `decode_avif` explains the errors."""
    image = _open_avif(view)
    problem = ANIMATED if image.n_frames > 1 else _animation(view)
    return Header(image.width, image.height, problem, _hidden(view, image.width * image.height))


def decode_avif(view: memoryview, _: Header) -> UInt8Array:
    """Decode an AVIF into (H, W, 3) uint8 RGB, upright.

    Raises:
        BadPicture: Pillow with AVIF is not installed, or cannot decode the file.
        OutOfMemory: there is not enough memory.
    """
    from PIL import ImageOps  # noqa: PLC0415 - Pillow is there

    image = _open_avif(view)
    try:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except MemoryError:
        raise OutOfMemory from None
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:
        raise _error_of(error) from None


def _open_heic(view: memoryview) -> "HeifFile":
    try:
        import pillow_heif  # noqa: PLC0415 - an extra
    except ImportError:
        raise _not_installed("a HEIC") from None
    try:
        file = pillow_heif.open_heif(bytes(view))
    except MemoryError:
        raise OutOfMemory from None
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:
        raise _error_of(error) from None
    if not len(file):  # a container without an image
        raise BadPicture(DAMAGED)
    return file


def _open_avif(view: memoryview) -> "AvifImageFile":
    try:
        from PIL import features  # noqa: PLC0415 - an extra
        from PIL.AvifImagePlugin import AvifImageFile  # noqa: PLC0415
    except ImportError:
        raise _not_installed("an AVIF") from None
    if not features.check("avif"):
        raise _not_installed("an AVIF")
    try:
        return AvifImageFile(io.BytesIO(view))
    except MemoryError:
        raise OutOfMemory from None
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:
        raise _error_of(error) from None


def _hidden(view: memoryview, shown: int) -> int:
    return max(count_decoded(view) - shown, 0)


def _animation(view: memoryview) -> str | None:
    return ANIMATED if bytes(view[8:12]) in _SEQUENCES else None


def _not_installed(found: str) -> BadPicture:
    return BadPicture(
        f"found {found}; send a still JPEG, PNG, WebP or BMP image, or install the extra of the service: pip install 'posewire[heif]'"
    )


def _error_of(error: Exception) -> BadPicture | OutOfMemory:
    """Return the error to raise for one of pillow-heif or Pillow: a lack of memory has no class of its own.

    libheif's is an OSError, and libavif's is known by its text. libheif calls its limits of sizes "Memory allocation error", too.
    """
    text = str(error).lower()
    lacks_memory = "out of memory" in text or (isinstance(error, OSError) and "memory" in text)
    return OutOfMemory() if lacks_memory else BadPicture(DAMAGED)
