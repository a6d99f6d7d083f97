"""Videos as the reader gives them, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from posewire.errors import BadVideo, TooLarge
from posewire.types import UInt8Array
from posewire.video.reading import VideoFrame, VideoReader
from tests.pictures import ASTRONAUT
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


@pytest.mark.parametrize("kind", ["junk", "sound", "empty", "picture", "text", "playlist", "cut", "stub", "folder", "none"])
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
        path.write_bytes({"junk": bytes(range(256)) * 20, "picture": ASTRONAUT.read_bytes(), "text": b"hello world\n" * 200}[kind])
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
