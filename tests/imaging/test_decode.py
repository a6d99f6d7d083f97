"""decode(): hostile and honest images, made with Pillow and by hand, against numpy."""

import io
import random
import re
import struct
import time
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from posewire.errors import BadPicture, TooLarge
from posewire.imaging.decode import SUPPORTED, decode, sniff
from posewire.types import UInt8Array

W, H = 48, 32
_coarse = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
RGB: UInt8Array = np.asarray(Image.fromarray(_coarse).resize((W, H), Image.Resampling.BICUBIC))  # smooth: lossy formats keep it
GREY: UInt8Array = RGB[..., :1]
ALPHA: UInt8Array = np.repeat(np.linspace(0, 255, H).astype(np.uint8)[:, None], W, axis=1)[..., None]  # top rows invisible
IMAGE = Image.fromarray(RGB)
SIXTEEN = np.dstack([RGB, ALPHA]).astype(int) * 256 + 77
FLIPS = ((1, 1), (1, -1), (-1, -1), (-1, 1))  # EXIF orientations 1 to 4, as steps down and to the right; 5 to 8 transpose first


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(data: bytes | memoryview, max_pixels: int = 1_000_000) -> UInt8Array:
    return decode(data, max_bytes=30_000_000, max_pixels=max_pixels).pixels


def assert_like(data: bytes, expected: UInt8Array, mean: float) -> None:
    pixels = pixels_of(data)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() <= mean


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, body: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)) + body


def png_of(samples: np.ndarray[Any, Any], depth: int, colour: int, ancillary: bytes = b"") -> bytes:
    """A PNG of (H, W, C) samples: the depths that Pillow does not write."""
    bits = samples.reshape(H, -1, 1) >> np.arange(depth - 1, -1, -1) & 1
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits.astype(np.uint8))
    return png(W, H, ancillary + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""), depth, colour)


def patch(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


JPEG, PNG, BMP = encode(IMAGE, "JPEG", quality=95), encode(IMAGE, "PNG"), encode(IMAGE, "BMP")
PROGRESSIVE = encode(IMAGE, "JPEG", quality=95, progressive=True)
VP8, VP8L = encode(IMAGE, "WEBP", quality=95), encode(IMAGE, "WEBP", lossless=True)
VP8X = encode(Image.fromarray(np.dstack([RGB, ALPHA])), "WEBP", quality=95)
OS2_BMP = b"BM" + struct.pack("<IHHIIHHHH", 26 + 3 * W * H, 0, 0, 26, 12, W, H, 1, 24) + RGB[::-1, :, ::-1].tobytes()
MADE = {"jpeg": JPEG, "progressive": PROGRESSIVE, "png": PNG, "vp8": VP8, "vp8l": VP8L, "vp8x": VP8X, "bmp": BMP, "os2": OS2_BMP}
MADE["png"] = PNG[:-12] + chunk(b"tEXt", bytes(5000)) + PNG[-12:]  # room for damage that libpng forgives
SOF = JPEG.index(b"\xff\xc0")  # marker, length, precision, height, width
SOF_END = SOF + 2 + 17


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options", "mean"),
    [("JPEG", {"quality": 95}, 3), ("PNG", {}, 0), ("WEBP", {"lossless": True}, 0), ("WEBP", {"quality": 95}, 3)],
)
def test_exif_orientation_is_applied(kind: str, options: dict[str, Any], mean: float, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = RGB if orientation <= 4 else RGB.transpose(1, 0, 2)
    down, right = FLIPS[(orientation - 1) % 4]
    assert_like(encode(IMAGE, kind, exif=exif, **options), turned[::down, ::right], mean)


PALETTE = IMAGE.quantize(16)
PALETTE_RGB: UInt8Array = np.asarray(PALETTE.convert("RGB"))
GREY_RGB: UInt8Array = np.repeat(GREY, 3, axis=2)
BITS = (GREY > 127).astype(np.uint8)
CMYK = np.dstack([255 - RGB, np.full((H, W), 60, np.uint8)])  # as Pillow holds it: 255 is full ink
DOT = Image.new("RGB", (1, 1), (10, 200, 30))
DOT_RGB = np.array([[[10, 200, 30]]], np.uint8)
EXIF = b"\xff\xe1\0\x1bExif\0\0"  # a segment of 27 bytes: 19 are to follow, as many as a frame header has
HONEST: dict[str, tuple[bytes, UInt8Array, float]] = {
    "jpeg": (JPEG, RGB, 3),
    "jpeg, progressive": (PROGRESSIVE, RGB, 3),
    "jpeg, grey": (encode(Image.fromarray(GREY[..., 0]), "JPEG", quality=95), GREY_RGB, 3),
    "jpeg, CMYK": (encode(Image.frombytes("CMYK", (W, H), CMYK.tobytes()), "JPEG", quality=98), (RGB * (195 / 255)).astype(np.uint8), 3),
    "jpeg, 1 x 1": (encode(DOT, "JPEG"), DOT_RGB, 2),
    "jpeg, thumbnail's frame header": (JPEG[:2] + EXIF + patch(JPEG[SOF:SOF_END], 5, b"\xff" * 4) + JPEG[2:], RGB, 3),
    "jpeg, padding": (JPEG[:SOF] + b"\xff" * 300 + JPEG[SOF:], RGB, 3),
    "png, 1 x 1": (encode(DOT, "PNG"), DOT_RGB, 0),
    "png, 1 bit": (png_of(BITS, 1, 0), np.repeat(BITS * np.uint8(255), 3, axis=2), 0),
    "png, 4-bit grey": (png_of(GREY >> 4, 4, 0), np.repeat((GREY >> 4) * np.uint8(17), 3, axis=2), 0),
    "png, 16-bit grey": (png_of(SIXTEEN[..., :1], 16, 0), GREY_RGB, 1),
    "png, 16-bit RGB": (png_of(SIXTEEN[..., :3], 16, 2), RGB, 1),
    "png, 16-bit RGBA": (png_of(SIXTEEN, 16, 6), RGB, 1),
    "png, palette": (encode(PALETTE, "PNG"), PALETTE_RGB, 0),
    "png, palette with alpha": (encode(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))), PALETTE_RGB, 0),
    "png, transparent colour": (encode(IMAGE, "PNG", transparency=tuple(int(v) for v in RGB[0, 0])), RGB, 0),
    "png, LA": (png_of(np.dstack([GREY, ALPHA]), 8, 4), GREY_RGB, 0),
    "png, RGBA on a background": (png_of(np.dstack([RGB, ALPHA]), 8, 6, chunk(b"bKGD", struct.pack(">HHH", 255, 0, 0))), RGB, 0),
    "webp, 1 x 1": (encode(DOT, "WEBP", lossless=True), DOT_RGB, 0),
    "webp, scale bits beside the size": (patch(VP8, 26, struct.pack("<HH", W | 0x4000, H | 0x8000)), RGB, 3),
    "webp, RGBA": (encode(Image.fromarray(np.dstack([RGB, ALPHA])), "WEBP", lossless=True, exact=True), RGB, 0),
    "bmp, 1 x 1": (encode(DOT, "BMP"), DOT_RGB, 0),
    "bmp": (BMP, RGB, 0),
    "bmp, palette": (encode(PALETTE, "BMP"), PALETTE_RGB, 0),
    "bmp, RGBA": (encode(Image.fromarray(np.dstack([RGB, ALPHA])), "BMP"), RGB, 0),
    "bmp, top row first": (patch(BMP, 22, struct.pack("<i", -H)), RGB[::-1], 0),
    "bmp, OS/2 header": (OS2_BMP, RGB, 0),
}


@pytest.mark.parametrize("name", HONEST)
def test_becomes_rgb_with_alpha_dropped(name: str) -> None:
    assert_like(*HONEST[name])


def test_a_view_into_a_larger_buffer() -> None:
    np.testing.assert_array_equal(pixels_of(memoryview(b"--" + PNG + b"--")[2:-2]), RGB)


def test_limits_are_inclusive() -> None:
    assert decode(PNG, max_bytes=len(PNG), max_pixels=W * H).width == W
    with pytest.raises(TooLarge, match=f"{len(PNG):,} bytes; at most {len(PNG) - 1:,}"):
        decode(PNG, max_bytes=len(PNG) - 1, max_pixels=W * H)
    with pytest.raises(TooLarge, match=f"{W} x {H} px; at most {W * H - 1:,}"):
        decode(PNG, max_bytes=len(PNG), max_pixels=W * H - 1)


HUGE = {  # by the size that the header claims
    "100000 x 100000": png(100_000, 100_000),
    "65535 x 65535": patch(JPEG, SOF + 5, struct.pack(">HH", 65535, 65535)),
    "65535 x 65500": patch(PROGRESSIVE, PROGRESSIVE.index(b"\xff\xc2") + 5, struct.pack(">HH", 65500, 65535)),
    "16383 x 16383": patch(VP8, 26, struct.pack("<HH", 16383, 16383)),
    "16384 x 16384": patch(VP8L, 21, struct.pack("<I", 0x0FFFFFFF)),
    "16383 x 16382": patch(VP8X, 24, (16382).to_bytes(3, "little") + (16381).to_bytes(3, "little")),
    "30000 x 20000": patch(BMP, 18, struct.pack("<ii", 30000, -20000)),
    "48 x 2147483648": patch(BMP, 22, struct.pack("<i", -(2**31))),
    "65535 x 65534": patch(OS2_BMP, 18, struct.pack("<HH", 65535, 65534)),
    "1000 x 1001": JPEG[:2] + EXIF + JPEG[SOF:SOF_END] + patch(JPEG[2:], SOF + 3, struct.pack(">HH", 1001, 1000)),
}


LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
BAD = {
    "png, zero width": (png(0, 5), "0 x 5"),
    "jpeg, zero height": (patch(JPEG, SOF + 5, b"\0\0"), "48 x 0"),
    "bmp, negative width": (patch(BMP, 18, struct.pack("<i", -W)), "-48 x 32"),
    "vp8, zero": (patch(VP8, 26, b"\0\0"), "0 x 32"),
    "vp8, no start code": (patch(VP8, 23, b"\0"), "damaged"),
    "webp, unknown chunk": (patch(VP8, 12, b"VP9 "), "damaged"),
    "png, no IHDR": (patch(PNG, 12, b"IDAT"), "damaged"),
    "png, a chunk of 2 GiB": (png(W, H, struct.pack(">I", 2**31 - 1) + b"IEND" + bytes(20)), "damaged"),
    "png, endless chunks": (png(W, H, chunk(b"tEXt", b"") * 200_000 + PNG[33:]), "damaged"),
    "jpeg, two frame headers": (JPEG[:SOF_END] + patch(JPEG[SOF:SOF_END], 5, b"\x40\0\x40\0") + JPEG[SOF_END:], "damaged"),
    "jpeg, no frame header": (JPEG[:SOF] + JPEG[SOF_END:], "damaged"),
    "jpeg, endless scans": (PROGRESSIVE[:-2] + LAST_SCAN * 100, "more than 100 scans"),
    "apng": (encode(IMAGE, "PNG", save_all=True, append_images=[IMAGE.rotate(90)]), "send one still frame"),
    "animated webp": (encode(IMAGE, "WEBP", save_all=True, append_images=[IMAGE.rotate(90)]), "send one still frame"),
}


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [(data, TooLarge, f"{size} px; at most 1,000,000 pixels") for size, data in HUGE.items()]
    + [(data, BadPicture, message) for data, message in BAD.values()],
    ids=[*HUGE, *BAD],
)
def test_refused_by_the_header(data: bytes, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the image reached the decoder"))
    with pytest.raises(error, match=message):
        pixels_of(data)


def test_a_jpeg_of_empty_segments_is_refused_at_once() -> None:
    start = time.process_time()
    with pytest.raises(BadPicture):
        pixels_of(b"\xff\xd8" + b"\xff\xe2\0\2" * 5_000_000)
    assert time.process_time() - start < 0.5


OTHERS = {
    "a GIF": encode(IMAGE, "GIF"),
    "a TIFF": encode(IMAGE, "TIFF"),
    "an MP4": b"\0\0\0\x20ftypisom",
    "text": b"BMW, Mercedes and Audi: caf\xc3\xa9s",
    "nothing (0 bytes)": b"",
    "bytes of an unknown kind": b"\x80\x81\x82",
}


@pytest.mark.parametrize("found", OTHERS)
def test_anything_else_is_named(found: str) -> None:
    assert sniff(OTHERS[found]) is None
    with pytest.raises(BadPicture, match=f"found {re.escape(found)}.*{SUPPORTED}"):
        pixels_of(OTHERS[found])


def test_sniff() -> None:
    kinds = ["jpeg", "jpeg", "png", "webp", "webp", "webp", "bmp", "bmp"]
    assert [sniff(data) for data in MADE.values()] == [f"image/{kind}" for kind in kinds]
    assert sniff(memoryview(PNG)) == "image/png"


@pytest.mark.parametrize("name", MADE)
def test_a_cut_file_is_refused_quietly(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = MADE[name]
    for end in {*range(0, len(data), len(data) // 40), len(data) - 1}:
        with pytest.raises(BadPicture):
            pixels_of(data[:end])
    assert "OpenCV" not in capfd.readouterr().err


def test_a_decoder_that_raises_or_sees_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadPicture, match="damaged or cut short"):
        decode(patch(BMP, 18, struct.pack("<ii", 2**21, 1)), max_bytes=10_000, max_pixels=2**22)  # OpenCV's own limit: cv2.error
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((W, W, 3), np.uint8))
    with pytest.raises(BadPicture, match=f"{W} x {H} px of its header"):
        pixels_of(PNG)


@pytest.mark.parametrize("name", MADE)
def test_mutated_files_decode_or_are_refused(name: str) -> None:
    dice = random.Random(name)  # a string seeds the same on every run
    decoded = refused = 0
    for _ in range(400):
        data = bytearray(MADE[name])
        for _ in range(dice.choice((1, 1, 2, 5))):
            at = dice.randrange(dice.choice((64, len(data))))
            new = dice.choice((b"\xff", b"\0", b"\x7f\xff", dice.randbytes(1), dice.randbytes(4)))
            data[at : at + dice.choice((0, 2, len(new), len(new), len(new)))] = new
        end = dice.choice((len(data), len(data), dice.randrange(len(data))))
        try:
            pixels = pixels_of(bytes(data[:end]))
        except (BadPicture, TooLarge):
            refused += 1
        else:
            decoded += 1
            assert pixels.size <= 3 * 1_000_000
    assert refused
    assert decoded
