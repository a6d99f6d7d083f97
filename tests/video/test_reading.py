"""Videos as the reader gives them, and what it refuses."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from posewire.errors import BadVideo, TooLarge
from posewire.types import UInt8Array
from posewire.video.reading import VideoFrame, VideoReader, measure
from tests.sample_images import ASTRONAUT
from tests.videos import empty_video, walk, write_sound, write_video

PIXELS = 1_000_000


def corners(width: int = 64, height: int = 48) -> UInt8Array:
    """Red at the top left, the rest black."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    return pixels


def test_frames_come_in_order_with_their_times(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.5, 0.6, 1.7]
    with VideoReader(write_video(tmp_path / "a.mp4", walk(5), times=times), max_pixels=PIXELS) as reader:
        read = list(reader)
    assert [f.index for f in read] == [0, 1, 2, 3, 4]
    assert [f.t_seconds for f in read] == pytest.approx(times, abs=1e-4)
    assert {f.frame.pixels.shape for f in read} == {(320, 320, 3)}


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    with VideoReader(write_video(tmp_path / "a.mkv", walk(3), times=[7.0, 7.1, 7.2]), max_pixels=PIXELS) as reader:
        assert [f.t_seconds for f in reader] == pytest.approx([0, 0.1, 0.2], abs=2e-3)


@pytest.mark.parametrize(("rotation", "shape", "red"), [(90, (64, 48), (-10, 10)), (180, (48, 64), (-10, -10)), (-90, (64, 48), (10, -10))])
def test_frames_are_turned_upright(tmp_path: Path, rotation: float, shape: tuple[int, int], red: tuple[int, int]) -> None:
    path = write_video(tmp_path / "a.mp4", [corners()] * 2, rotation=rotation)
    with VideoReader(path, max_pixels=PIXELS) as reader:
        assert (reader.info.height, reader.info.width) == shape
        pixels = next(reader).frame.pixels
    assert pixels.shape[:2] == shape
    assert pixels[red][0] > 150
    assert (pixels[..., 0] > 150).mean() == pytest.approx(0.25, abs=0.05)


# The linear part of a display matrix, a b c d: x' = a x + c y, y' = b x + d y.
@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, 1, 0), (0, 1, -1, 0), (0, -1, 1, 0), (0, -1, -1, 0)],
)
def test_display_matrices_that_mirror_or_turn_are_applied_exactly(tmp_path: Path, a: int, b: int, c: int, d: int) -> None:
    coded = np.zeros((48, 64, 3), np.uint8)
    coded[:24, :32], coded[:24, 32:], coded[24:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    one = 1 << 16
    path = write_video(tmp_path / "a.mp4", [coded] * 2, matrix=[a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30])
    with VideoReader(path, max_pixels=PIXELS) as reader:
        shown = next(reader).frame.pixels.astype(int)
    assert shown.shape == ((48, 64, 3) if a else (64, 48, 3))
    height, width = shown.shape[:2]
    for channel, x, y in [(0, -16, -12), (1, 16, -12), (2, -16, 12)]:  # the middle of each colour, from the middle of the frame
        at = shown[height // 2 + b * x + d * y, width // 2 + a * x + c * y]
        assert at[channel] > 150, (channel, at)
        assert np.delete(at, channel).max() < 100, (channel, at)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("aspect", "rotation", "size"),
    [
        (Fraction(4, 3), 0, (85, 48)),
        (Fraction(1, 2), 0, (64, 96)),
        (Fraction(2), 90, (48, 128)),
        (Fraction(1), 0, (64, 48)),
        (Fraction(1, 1000), 0, (64, 48)),
        (Fraction(1000), 0, (64, 48)),
    ],
)
def test_pixels_become_square(tmp_path: Path, suffix: str, aspect: Fraction, rotation: int, size: tuple[int, int]) -> None:
    if rotation and suffix == ".mkv":
        pytest.skip("the writer keeps no rotation in Matroska")
    path = write_video(tmp_path / f"a{suffix}", [corners()] * 2, aspect=aspect, rotation=rotation)
    with VideoReader(path, max_pixels=PIXELS) as reader:
        pixels = next(reader).frame.pixels
        assert (reader.info.width, reader.info.height) == size
    assert pixels.shape == (size[1], size[0], 3)
    assert (pixels[..., 0] > 150).mean() == pytest.approx(0.25, abs=0.05)


def test_the_limit_of_pixels_holds_for_square_pixels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [corners()] * 2, aspect=Fraction(2))
    with pytest.raises(TooLarge, match="128 x 48"):
        VideoReader(path, max_pixels=128 * 48 - 1)


def joined(path: Path) -> Path:
    """Two transport streams of eight frames, one after the other: the clock starts again."""
    part = write_video(path, [corners()] * 8).read_bytes()
    path.write_bytes(part * 2)
    return path


def test_a_clock_that_starts_again_goes_on_at_the_usual_distance(tmp_path: Path) -> None:
    with VideoReader(joined(tmp_path / "a.ts"), max_pixels=PIXELS) as reader:
        times = [f.t_seconds for f in reader]
    assert len(times) >= 15
    assert np.diff(times) == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("times", "distances"),
    [
        ([0, 0.1, 0.2, 7000.2, 7000.3], [0.1] * 4),  # a recorder's clock was set
        ([0, 7000, 7000.1, 7000.2, 7000.3], [0.1] * 4),
        ([0, 0.1, 0.2, 4.7, 4.8], [0.1, 0.1, 4.5, 0.1]),  # a screen that did not change
        ([0, 10, 20, 30, 40], [0.1, 0.1, 10, 10]),  # an image every ten seconds, of which the header knows nothing
    ],
)
def test_gaps_stay_and_jumps_do_not(tmp_path: Path, times: list[float], distances: list[float]) -> None:
    with VideoReader(write_video(tmp_path / "a.mkv", [corners()] * 5, times=times), max_pixels=PIXELS) as reader:
        read = [f.t_seconds for f in reader]
    assert np.diff(read) == pytest.approx(distances, abs=2e-3)


def test_the_length_is_that_of_the_frames(tmp_path: Path) -> None:
    with_sound = write_video(tmp_path / "sound.mp4", [corners()] * 10, sound_s=5.0)
    jumping = write_video(tmp_path / "jump.mp4", [corners()] * 10, times=[0.1 * i + 7000 * (i > 4) for i in range(10)])
    for path in (with_sound, jumping, write_video(tmp_path / "a.mkv", [corners()] * 10)):
        length = measure(path, max_frames=10, max_seconds=1.01)
        assert length.frames == 10
        assert length.seconds == pytest.approx(1.0, abs=1e-2)
        with pytest.raises(TooLarge, match="9 frames"):
            measure(path, max_frames=9, max_seconds=1.01)
        with pytest.raises(TooLarge, match=r"0\.5 s"):
            measure(path, max_frames=10, max_seconds=0.5)
    with VideoReader(with_sound, max_pixels=PIXELS) as reader:
        assert reader.info.duration_s == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_metadata_may_be_in_any_encoding(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", [corners()] * 2, title="Cafe_Muller")
    data = path.read_bytes()
    assert b"Cafe_Muller" in data
    path.write_bytes(data.replace(b"Cafe_Muller", b"Caf\xe9_M\xfcller"))
    with VideoReader(path, max_pixels=PIXELS) as reader:
        assert len(list(reader)) == 2


@pytest.mark.parametrize("kind", ["junk", "sound", "empty", "image", "text", "playlist", "cut", "stub", "folder", "none"])
def test_what_is_no_video_is_refused_in_words(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mkv"
    if kind == "sound":
        path = write_sound(tmp_path / "a.mp4")
    elif kind == "empty":
        empty_video(path)
    elif kind == "playlist":  # FFmpeg would open whatever files and addresses it names
        write_video(tmp_path / "b.mkv", walk(2))
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path / 'b.mkv'}\n#EXT-X-ENDLIST\n")
    elif kind in ("cut", "stub"):
        write_video(path, walk(2))
        path.write_bytes(path.read_bytes()[: 200 if kind == "stub" else 3000])
    elif kind == "folder":
        path = tmp_path
    elif kind != "none":
        path.write_bytes({"junk": bytes(range(256)) * 20, "image": ASTRONAUT.read_bytes(), "text": b"hello world\n" * 200}[kind])
    says = {
        "sound": "only audio",
        "empty": "cut short",
        "stub": "cut short",
        "cut": "no frame",
        "folder": "directory",
        "none": "No such file",
    }.get(kind, "MP4")
    with pytest.raises(BadVideo, match=says):
        VideoReader(path, max_pixels=PIXELS)


def test_damage_in_the_middle_is_told_with_its_place(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", walk(12))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    read: list[VideoFrame] = []
    with VideoReader(path, max_pixels=PIXELS) as reader, pytest.raises(BadVideo, match=r"damaged after \d+ frames, at"):
        read.extend(reader)
    assert 0 < len(read) < 12


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="320 x 320"):
        VideoReader(write_video(tmp_path / "a.mp4", walk(2)), max_pixels=320 * 320 - 1)


def test_a_closed_reader_has_no_more_frames(tmp_path: Path) -> None:
    reader = VideoReader(write_video(tmp_path / "a.mp4", walk(3)), max_pixels=PIXELS)
    reader.close()
    reader.close()
    assert list(reader) == []
