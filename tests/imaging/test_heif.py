"""decode() of HEIC and AVIF, made by the libraries of the extra `heif`."""

import contextlib
import io
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from posewire import PosePipeline
from posewire.errors import BadPicture, TooLarge
from posewire.imaging.decode import count_pixels, decode, sniff
from posewire.types import UInt8Array

W, H = 96, 64
_coarse = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
RGB: UInt8Array = np.asarray(Image.fromarray(_coarse).resize((W, H), Image.Resampling.BICUBIC))
IMAGE = Image.fromarray(RGB)
FLIPS = ((1, 1), (1, -1), (-1, -1), (-1, 1))  # EXIF orientations 1 to 4, as steps down and to the right; 5 to 8 transpose first


def heic(image: Image.Image = IMAGE, orientation: int = 1) -> bytes:
    file = io.BytesIO()
    made = pillow_heif.from_pillow(image)
    made.info["exif"] = _exif(orientation).tobytes()  # written as irot and imir
    made.save(file, quality=95, chroma=444)
    return file.getvalue()


def avif(image: Image.Image = IMAGE, orientation: int = 1, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "AVIF", quality=95, subsampling="4:4:4", exif=_exif(orientation), **options)
    return file.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


KINDS: dict[str, Callable[..., bytes]] = {"image/heic": heic, "image/avif": avif}


def pixels_of(data: bytes, max_pixels: int = 1_000_000) -> UInt8Array:
    return decode(data, max_bytes=30_000_000, max_pixels=max_pixels).pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_the_image_is_upright(kind: str, orientation: int) -> None:
    data = KINDS[kind](IMAGE, orientation)
    assert sniff(data) == kind
    turned = RGB if orientation <= 4 else RGB.transpose(1, 0, 2)
    down, right = FLIPS[(orientation - 1) % 4]
    expected = turned[::down, ::right]
    pixels = pixels_of(data)
    assert pixels.flags.c_contiguous
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 6
    assert count_pixels(data, max_bytes=len(data), max_pixels=W * H) == W * H


ALPHA = np.full((H, W, 1), 255, np.uint8)
ALPHA[: H // 2] = 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("image", "expected"),
    [(Image.fromarray(np.dstack([RGB, ALPHA])), RGB), (Image.fromarray(RGB[..., 0]), np.repeat(RGB[..., :1], 3, axis=2))],
    ids=["RGBA", "grey"],
)
def test_becomes_rgb_with_alpha_dropped(kind: str, image: Image.Image, expected: UInt8Array) -> None:
    pixels = pixels_of(KINDS[kind](image))
    assert pixels.shape == expected.shape
    assert np.abs(pixels[H // 2 + 8 :].astype(int) - expected[H // 2 + 8 :]).mean() < 6


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_of_pixels_is_checked_before_decoding(kind: str) -> None:
    data = KINDS[kind]()
    assert pixels_of(data, W * H).shape == RGB.shape
    with pytest.raises(TooLarge, match=f"{W} x {H} px; at most {W * H - 1:,}"):
        count_pixels(data, max_bytes=len(data), max_pixels=W * H - 1)
    with pytest.raises(TooLarge, match="12000 x 12000 px; at most 6,144"):
        pixels_of(_with_size(data, 12_000, 12_000), W * H)


def cropped(width: int, height: int) -> bytes:
    """A HEIC of 1000 x 702 px, whose `clap` shows so many of them."""
    data = heic(Image.fromarray(np.full((701, 999, 3), 90, np.uint8)))  # HEVC has even sizes: the encoder adds a crop
    stated = struct.pack(">IIII", 999, 1, 701, 1)
    assert data.count(b"clap" + stated) == 1
    return data.replace(b"clap" + stated, b"clap" + struct.pack(">IIII", width, 1, height, 1))


def test_the_limit_of_pixels_counts_those_that_a_crop_hides() -> None:
    data = cropped(W, H)
    assert pixels_of(data, 702_000).shape == RGB.shape
    assert count_pixels(data, max_bytes=len(data), max_pixels=702_000) == 702_000
    with pytest.raises(TooLarge, match=f"{W * H:,} px, and {702_000 - W * H:,} more that are cropped; at most 701,999"):
        pixels_of(data, 701_999)


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def grid(kind: str, columns: int, rows: int, width: int, height: int, tile: int = 128) -> bytes:
    """A file that shows a grid of one tile, again and again, of which so many pixels are seen."""
    source = KINDS[kind](IMAGE.resize((tile, tile)))
    name, config, brand = (b"hvc1", b"hvcC", b"heic") if kind == "image/heic" else (b"av01", b"av1C", b"avif")
    at = source.index(config) - 4
    codec = source[at : at + int.from_bytes(source[at : at + 4])]
    location = source.index(b"iloc") + 12  # of the first item, the image: its number, 2 bytes more, and where it begins
    if kind == "image/heic":
        start, _, _, length = struct.unpack_from(">IHII", source, location + 4)
    else:
        start, length = struct.unpack_from(">II", source, location + 6)
    described = struct.pack(">4BHH", 0, 0, rows - 1, columns - 1, width, height)

    def file(offset: int) -> bytes:
        items = [_box(b"infe", struct.pack(">IHH4sx", 2 << 24, number, 0, of)) for number, of in ((1, name), (2, b"grid"))]
        sizes = [_box(b"ispe", struct.pack(">III", 0, *size)) for size in ((tile, tile), (width, height))]
        parts = [1] * (columns * rows)
        places = [(1, offset, length), (2, offset + length, len(described))]
        meta = _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", struct.pack(">II4s13x", 0, 0, b"pict")),
            _box(b"pitm", struct.pack(">IH", 0, 2)),
            _box(b"iloc", struct.pack(">I2BH", 0, 0x44, 0, 2), *(struct.pack(">3HII", item, 0, 1, *place) for item, *place in places)),
            _box(b"iinf", struct.pack(">IH", 0, 2), *items),
            _box(b"iref", bytes(4), _box(b"dimg", struct.pack(f">2H{len(parts)}H", 2, len(parts), *parts))),
            _box(b"iprp", _box(b"ipco", codec, *sizes), _box(b"ipma", struct.pack(">IIH3BH2B", 0, 2, 1, 2, 0x81, 2, 2, 1, 3))),
        )
        return _ftyp(brand, b"mif1", brand) + meta + _box(b"mdat", source[start : start + length], described)

    return file(len(file(0)) - length - len(described))


def test_the_tiles_at_the_edges_of_a_grid_do_not_count() -> None:
    data = grid("image/heic", 6, 5, 740, 630)
    assert pixels_of(data, 740 * 630).shape == (630, 740, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_of_pixels_counts_what_a_tile_hides(kind: str) -> None:
    data = grid(kind, 1, 1, 64, 64, tile=512)
    assert pixels_of(data, 512 * 512).shape == (64, 64, 3)
    with pytest.raises(TooLarge, match="4,096 px, and 258,048 more that are cropped; at most 262,143"):
        pixels_of(data, 512 * 512 - 1)


def test_the_limit_of_pixels_counts_every_tile_of_a_grid() -> None:
    data = grid("image/heic", 20, 10, 64, 64)
    assert count_pixels(data, max_bytes=len(data), max_pixels=20 * 10 * 128 * 128) == 20 * 10 * 128 * 128
    with pytest.raises(TooLarge, match="4,096 px, and 3,272,704 more that are cropped"):
        pixels_of(data, 20 * 10 * 128 * 128 - 1)


def test_a_heic_larger_than_it_says_is_refused() -> None:
    with pytest.raises(BadPicture, match="damaged"):
        pixels_of(_with_size(heic(IMAGE.resize((320, 240))), 64, 64, of=(320, 240)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused(kind: str) -> None:
    data = KINDS[kind]()
    for end in np.linspace(12, len(data) - 40, 20).astype(int):
        with pytest.raises(BadPicture):
            pixels_of(data[:end])


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_decode_or_are_refused(kind: str) -> None:
    dice = np.random.default_rng(3)
    made, decoded = KINDS[kind](), 0
    for _ in range(60):
        data = bytearray(made)
        for at in dice.integers(12, len(data), 2):
            data[at] = dice.integers(256)
        with contextlib.suppress(BadPicture, TooLarge):
            decoded += pixels_of(bytes(data)).size > 0
    assert 0 < decoded < 60


def test_a_sequence_is_refused() -> None:
    with pytest.raises(BadPicture, match="one still frame"):
        pixels_of(avif(save_all=True, append_images=[IMAGE.rotate(90)]))
    data = heic()
    with pytest.raises(BadPicture, match="one still frame"):
        pixels_of(data[:8] + b"hevc" + data[12:])


def _ftyp(major: bytes, *compatible: bytes) -> bytes:
    return struct.pack(">I4s4sI", 16 + 4 * len(compatible), b"ftyp", major, 0) + b"".join(compatible)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (_ftyp(b"mif1", b"mif1", b"heic"), "image/heic"),
        (_ftyp(b"mif1", b"miaf", b"avif"), "image/avif"),
        (_ftyp(b"avis", b"avif"), "image/avif"),
        (_ftyp(b"heix"), "image/heic"),
        (_ftyp(b"isom", b"mp42"), None),
        (_ftyp(b"qt  "), None),
        (b"\0\0\0\x18ftyp", None),
    ],
)
def test_sniff(head: bytes, kind: str | None) -> None:
    assert sniff(head) == kind


def test_the_pipeline_takes_a_heic() -> None:
    pipeline = PosePipeline.load()
    assert not pipeline(heic()).people


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(["PIL", "pillow_heif"]))  # as if they were not installed
from posewire.errors import BadPicture
from posewire.imaging.decode import count_pixels, decode
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    for read in (decode, count_pixels):
        try:
            read(data, max_bytes=10**6, max_pixels=10**6)
        except BadPicture as error:
            print(error)
"""


def test_without_the_extra_the_answer_says_what_to_install(tmp_path: Any) -> None:
    (tmp_path / "a.heic").write_bytes(heic())
    (tmp_path / "a.avif").write_bytes(avif())
    command = [sys.executable, "-c", WITHOUT, tmp_path / "a.heic", tmp_path / "a.avif"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert len(lines) == 4
    for line, found in zip(lines, ["a HEIC", "a HEIC", "an AVIF", "an AVIF"], strict=True):
        assert line.startswith(f"found {found}; send a still JPEG, PNG, WebP or BMP image")
        assert line.endswith("pip install 'posewire[heif]'")


def _with_size(data: bytes, width: int, height: int, of: tuple[int, int] = (W, H)) -> bytes:
    """The same file, whose header (`ispe`) states another size."""
    stated = struct.pack(">II", *of)
    assert data.count(stated) == 1
    return data.replace(stated, struct.pack(">II", width, height))
