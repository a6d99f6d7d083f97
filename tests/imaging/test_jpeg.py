"""decode() of JPEGs: cut short, of many scans, and of kinds that OpenCV cannot decode."""

import io
import itertools
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from posewire.errors import BadPicture
from posewire.imaging.decode import count_pixels, decode
from posewire.types import UInt8Array

CASES = Path(__file__).parents[3] / "shared" / "cases"
W, H = 160, 120
END = b"\xff\xd9"
SCAN = b"\xff\xda"

_coarse = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
RGB: UInt8Array = np.asarray(Image.fromarray(_coarse).resize((W, H), Image.Resampling.BICUBIC))
IMAGE = Image.fromarray(RGB)
GREY = Image.new("RGB", (W, H), (128, 128, 128))  # libjpeg's colour for missing data
BORDER = RGB.copy()
BORDER[60:] = 0


def jpeg(image: Image.Image = IMAGE, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 85, **options})
    return file.getvalue()


def pixels_of(data: bytes, max_pixels: int = 1_000_000) -> UInt8Array:
    return decode(data, max_bytes=30_000_000, max_pixels=max_pixels).pixels


def reference(data: bytes) -> UInt8Array:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def insert(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at:]


KINDS = {
    "baseline": jpeg(),
    "4:4:4": jpeg(subsampling=0),
    "restart markers": jpeg(restart_marker_blocks=3),
    "optimised codes": jpeg(optimize=True),
    "grey": jpeg(IMAGE.convert("L")),
    "CMYK": jpeg(IMAGE.convert("CMYK")),
    "progressive": jpeg(progressive=True),
    "progressive, restart markers": jpeg(progressive=True, restart_marker_blocks=3),
    "progressive, grey": jpeg(IMAGE.convert("L"), progressive=True),
    "progressive, CMYK": jpeg(IMAGE.convert("CMYK"), progressive=True),
}
PROGRESSIVE = KINDS["progressive"]
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(SCAN) : -2]
TAILS = {"nothing": b"", "zeros": bytes(5000), "an image": jpeg(GREY)}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_and_closed_is_refused(kind: str, tail: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = KINDS[kind]
    start = data.index(SCAN) + 14
    last = len(data) - 30
    for at in np.linspace(start + 1, last, 25).astype(int):
        with pytest.raises(BadPicture, match="cut short"):
            pixels_of(data[:at] + END + TAILS[tail])
    assert "premature end" not in capfd.readouterr().err  # libjpeg would print it for every such file


def split_scans(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return what is before the first scan, and each scan with the tables that follow it, without the end marker."""
    starts = [at for at in range(len(data)) if data[at : at + 2] == SCAN]
    return data[: starts[0]], [data[start:end] for start, end in itertools.pairwise([*starts, len(data) - 2])]


def one_component_a_scan(data: bytes) -> bytes:
    """Return the headers of a grey baseline JPEG as those of an image of three components, each with the scan of the grey one."""
    head, [scan] = split_scans(data)
    frame = head.index(b"\xff\xc0")
    components = b"".join(bytes([name, 0x11, 0]) for name in (1, 2, 3))
    size = head[frame + 4 : frame + 9]
    head = head[:frame] + b"\xff\xc0\0\x11" + size + b"\3" + components + head[frame + 13 :]
    return head + b"".join(scan[:5] + bytes([name]) + scan[6:] for name in (1, 2, 3)) + END


SCANS = {
    **{name: data for name, data in KINDS.items() if name.startswith("progressive")},
    "a scan for each component": one_component_a_scan(KINDS["grey"]),
}


@pytest.mark.parametrize("end", [b"", *(END + tail for tail in TAILS.values())], ids=["open", *(f"closed, then {tail}" for tail in TAILS)])
@pytest.mark.parametrize("name", SCANS)
def test_a_file_that_is_cut_between_two_scans_is_refused(name: str, end: bytes) -> None:
    head, scans = split_scans(SCANS[name])
    np.testing.assert_array_equal(pixels_of(head + b"".join(scans) + END), reference(SCANS[name]))
    assert len(scans) > 2
    for kept in range(len(scans)):
        with pytest.raises(BadPicture, match="cut short"):
            pixels_of(head + b"".join(scans[:kept]) + end)


COMPLETE = {
    **KINDS,
    "a scan for each component": SCANS["a scan for each component"],
    "one colour": jpeg(GREY),
    "one colour, progressive": jpeg(GREY, progressive=True),
    "black at the bottom": jpeg(Image.fromarray(BORDER)),
    "an image after the end": KINDS["baseline"] + KINDS["progressive"],
    "zeros after the end": KINDS["baseline"] + bytes(5000),
    "zeros after the end, progressive": PROGRESSIVE + bytes(5000),
    "fill bytes before the end": insert(KINDS["baseline"], -2, b"\xff" * 100),
    "a comment before the end": insert(KINDS["baseline"], -2, b"\xff\xfe\0\4ab"),
    "bytes before the end": insert(KINDS["baseline"], -2, bytes(100)),
    "bytes before the end, progressive": insert(PROGRESSIVE, -2, bytes(100)),
    "bytes between the scans": insert(PROGRESSIVE, PROGRESSIVE.rindex(b"\xff\xc4"), bytes(100)),
    "odd sizes": jpeg(IMAGE.crop((0, 0, 17, 9))),
    "one pixel": jpeg(IMAGE.crop((0, 0, 1, 1))),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_a_complete_file_is_decoded_as_opencv_does(name: str) -> None:
    np.testing.assert_array_equal(pixels_of(COMPLETE[name]), reference(COMPLETE[name]))


def test_all_sizes_and_qualities_are_complete() -> None:
    dice = np.random.default_rng(1)
    for _ in range(150):
        width, height, quality = int(dice.integers(1, W)), int(dice.integers(1, H)), int(dice.integers(1, 101))
        image = IMAGE.crop((W - width, H - height, W, H))
        data = jpeg(image, quality=quality, subsampling=int(dice.integers(0, 3)), optimize=bool(dice.integers(2)))
        np.testing.assert_array_equal(pixels_of(data), reference(data))


def with_frame(marker: int, precision: int = 8) -> bytes:
    at = KINDS["baseline"].index(b"\xff\xc0")
    return KINDS["baseline"][: at + 1] + bytes([marker, 0, 17, precision]) + KINDS["baseline"][at + 5 :]


OTHER_KINDS = {
    "12 bits": (with_frame(0xC1, 12), "a JPEG with 12 bits a sample"),
    "12 bits, progressive": (with_frame(0xC2, 12), "a JPEG with 12 bits a sample"),
    "lossless": (with_frame(0xC3), "a lossless JPEG"),
    "lossless of 16 bits": (with_frame(0xC3, 16), "a lossless JPEG"),
    "lossless, arithmetic": (with_frame(0xCB), "a lossless JPEG"),
    "arithmetic": (with_frame(0xC9), "an arithmetic-coded JPEG"),
    "arithmetic, progressive": (with_frame(0xCA), "an arithmetic-coded JPEG"),
    "hierarchical": (with_frame(0xC6), "a hierarchical JPEG"),
    "JPEG-LS": (with_frame(0xF7), "a JPEG-LS"),
}


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_a_kind_that_cannot_be_decoded_is_named(name: str) -> None:
    data, kind = OTHER_KINDS[name]
    with pytest.raises(BadPicture, match=f"found {kind}; send a baseline or progressive JPEG with 8 bits a sample"):
        count_pixels(data, max_bytes=len(data), max_pixels=W * H)


def test_an_image_of_the_maximum_size_may_have_20_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = PROGRESSIVE.count(SCAN)
    most = insert(PROGRESSIVE, -2, LAST_SCAN * (20 - scans))
    more = insert(most, -2, LAST_SCAN)
    assert pixels_of(most, max_pixels=W * H).shape == (H, W, 3)
    assert pixels_of(more, max_pixels=2 * W * H).shape == (H, W, 3)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the image reached the decoder"))
    with pytest.raises(BadPicture, match="21 scans of 19,200 pixels"):
        pixels_of(more, max_pixels=W * H)


@pytest.mark.skipif(not CASES.is_dir(), reason="the collected cases are not beside this checkout")
@pytest.mark.parametrize(("name", "message"), [("trunc_then_eoi.jpg", "cut short"), ("twelve.jpg", "12 bits a sample")])
def test_a_collected_case_is_refused(name: str, message: str) -> None:
    with pytest.raises(BadPicture, match=message):
        pixels_of((CASES / name).read_bytes())


def test_a_frame_header_of_another_size_is_no_complete_file() -> None:
    data = KINDS["baseline"]
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(BadPicture, match="cut short"):
        pixels_of(data[:at] + struct.pack(">H", H + 16) + data[at + 2 :])
