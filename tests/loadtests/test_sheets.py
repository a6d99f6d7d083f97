"""Contact sheets: their layout, what they read, and one that is drawn from end to end."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import typer

from loadtests.sheets import GAP, LINE, WIDTH, Cell, draw_sheet, main, parse_column, read_frame
from posewire.errors import ConfigError, PosewireError
from posewire.types import UInt8Array
from tests.sample_images import ASTRONAUT, encode
from tests.videos import walk, write_video


def plain(width: int, height: int, value: int) -> UInt8Array:
    return np.full((height, width, 3), value, np.uint8)


def test_a_sheet_has_a_row_an_image_and_a_column_a_pair() -> None:
    columns = [
        [Cell("a", plain(200, 100, 10)), Cell("b", plain(50, 100, 20))],
        [Cell("a", plain(200, 100, 30)), Cell("b", plain(50, 100, 40))],
    ]
    sheet = draw_sheet(["before", "now"], columns, 100)
    assert sheet.shape == (GAP + LINE + 2 * (100 + LINE + GAP), GAP + 2 * (200 + GAP), 3)
    rows, lefts = [GAP + LINE, GAP + LINE + 100 + LINE + GAP], [GAP, GAP + 200 + GAP]
    found = [[int(sheet[top + 50, left + 25, 0]) for top in rows] for left in lefts]
    assert found == [[10, 20], [30, 40]]


def test_images_keep_their_aspect_and_fit_the_sheet() -> None:
    sheet = draw_sheet(["wide"], [[Cell("a", plain(4000, 200, 0))]], 300)
    assert sheet.shape[1] == WIDTH
    dark = np.asarray((sheet[GAP + LINE :] == 0).all((1, 2)) | (sheet[GAP + LINE :, WIDTH // 2] == 0).all(1))
    assert np.count_nonzero(dark) == pytest.approx((WIDTH - 2 * GAP) / 20, abs=1)


def test_a_long_caption_stays_in_its_column() -> None:
    columns = [[Cell("a name that does not end " * 10, plain(80, 80, 255))], [Cell("", plain(80, 80, 255))]]
    sheet = draw_sheet(["x", "y"], columns, 80)
    caption = sheet[GAP + LINE + 80 : GAP + LINE + 80 + LINE]
    assert (caption[:, : GAP + 80] < 255).any()
    assert (caption[:, GAP + 80 + GAP // 2 :] == 255).all()


def test_a_column_names_a_store_two_models_and_a_score(tmp_path: Path) -> None:
    column = parse_column(f"old={tmp_path}:finder:placer:0.4")
    assert column.title == "old"
    settings = column.settings
    assert (settings.model_store, settings.detector, settings.pose, settings.min_detection_score) == (tmp_path, "finder", "placer", 0.4)


def test_a_column_of_a_title_alone_has_the_defaults() -> None:
    settings = parse_column("now=").settings
    assert (settings.model_store, settings.detector, settings.pose) == (None, None, None)


@pytest.mark.parametrize("text", ["now", "=store", "now=store:detector", "now=a:b:c:0.1:d", "now=a:b:c:many"])
def test_a_column_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_column(text)


def test_a_frame_of_a_video_is_read_by_its_number(tmp_path: Path) -> None:
    frames = walk(6)
    video = write_video(tmp_path / "walk.mp4", frames)
    found = read_frame(f"{video}@4").pixels.astype(np.float32)
    errors = [float(np.abs(found - frame).mean()) for frame in frames]
    assert int(np.argmin(errors)) == 4


@pytest.mark.parametrize("name", ["absent.jpg", "absent.mp4@3"])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(PosewireError, match="absent"):
        read_frame(str(tmp_path / name))


def test_a_sheet_shows_people_where_they_are_and_nobody_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nobody.png").write_bytes(encode(np.full((512, 512, 3), 114, np.uint8), ".png"))
    main([str(ASTRONAUT), str(tmp_path / "nobody.png")], tmp_path / "sheet.jpg", ["now="], 512)
    sheet = cv2.imread(str(tmp_path / "sheet.jpg"), cv2.IMREAD_COLOR_RGB)
    assert sheet is not None
    assert sheet.shape == (GAP + LINE + 2 * (512 + LINE + GAP), GAP + 512 + GAP, 3)
    top = GAP + LINE
    astronaut = cv2.imread(str(ASTRONAUT), cv2.IMREAD_COLOR_RGB)
    assert astronaut is not None
    drawn = np.abs(sheet[top : top + 512, GAP : GAP + 512].astype(int) - astronaut).max(-1) > 80
    assert drawn.sum() > 500
    top += 512 + LINE + GAP
    empty = np.abs(sheet[top : top + 512, GAP : GAP + 512].astype(int) - 114).max(-1) > 80
    assert empty.sum() < 50  # JPEG's noise
    assert "2 images, 1 pair of models" in capsys.readouterr().out


def test_a_missing_image_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        main([str(tmp_path / "absent.jpg")], tmp_path / "sheet.jpg")
    assert caught.value.exit_code == 1
    assert "absent.jpg" in capsys.readouterr().err
