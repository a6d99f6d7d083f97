"""`python -m loadtests.sheets IMAGE… --out sheet.jpg`: a contact sheet, one row an image and one column a pair of models."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import cv2
import numpy as np
import typer

from posewire.config import Settings, load_settings
from posewire.engine.engine import load_engine
from posewire.errors import ConfigError, PosewireError, ServiceError
from posewire.files import write_atomically
from posewire.imaging.decode import decode
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics
from posewire.types import Frame, UInt8Array
from posewire.words import counted

WIDTH: Final = 1400  # pixels, of a sheet at most
GAP: Final = 10  # pixels, around every cell
LINE: Final = 26  # pixels, of a line of text

_FORM = "TITLE=[STORE][:DETECTOR:POSE[:MIN_DETECTION_SCORE]]"
_INK = (25, 25, 25)
_JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Column:
    """A pair of models under a title."""

    title: str
    settings: Settings  # name the store and, unless the store's defaults are wanted, both models


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """An image with everyone drawn on it."""

    caption: str
    pixels: UInt8Array  # (h, w, 3) uint8, RGB


def main(
    images: Annotated[list[str], typer.Argument(help="Images, and frames of videos as FILE@NUMBER.")],
    out: Annotated[Path, typer.Option(help="JPEG file to write.", dir_okay=False)],
    models: Annotated[
        list[str] | None,
        typer.Option(help=f"A column, as {_FORM}. No STORE: the models that ship. No names: the store's defaults."),
    ] = None,
    row_height: Annotated[int, typer.Option(min=50, help="Of an image on the sheet, pixels.")] = 360,
) -> None:
    """Find everyone on every image with every pair of models, and draw a sheet."""
    configure_logging("warning")
    try:
        columns = [parse_column(text) for text in models or ["now="]]
        frames = {name.rsplit("/", 1)[-1]: read_frame(name) for name in images}
        cells = [asyncio.run(_cells(column, frames)) for column in columns]
        _, data = cv2.imencode(
            ".jpg",
            cv2.cvtColor(draw_sheet([heading for heading, _ in cells], [column for _, column in cells], row_height), cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
        )
        write_atomically(out, data.tobytes())
    except PosewireError as error:
        print(f"loadtests.sheets: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    pairs = counted(len(columns), "pair of models", "pairs of models")
    print(f"{out}: {len(frames)} images, {pairs}, {len(data) / 1000:.0f} kB")


def parse_column(text: str) -> Column:
    """A column from TITLE=[STORE][:DETECTOR:POSE[:MIN_DETECTION_SCORE]]; what is left out is the service's default.

    Raises:
        ConfigError: the text has another form, or the score is not one.
    """
    title, equals, rest = text.partition("=")
    store, *names = rest.split(":")
    if not title or not equals or len(names) not in (0, 2, 3):
        raise ConfigError(f"{text}: a column is {_FORM}")
    detector, pose, score = (*names, None, None, None)[:3]
    environment = {key: value for key, value in os.environ.items() if key in ("HOME", "POSEWIRE_CACHE_DIR")}
    return Column(title, load_settings(environment, model_store=store or None, detector=detector, pose=pose, min_detection_score=score))


def read_frame(name: str) -> Frame:
    """The image of a file, or of a video's frame if `name` is FILE@NUMBER, counted from 0.

    Raises:
        PosewireError: it cannot be read.
    """
    path, _, number = name.rpartition("@")
    if not (path and number.isdecimal()):
        settings = load_settings({})
        try:
            return decode(Path(name).read_bytes(), max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
        except (OSError, ServiceError) as error:
            raise PosewireError(f"{name} cannot be read: {error}") from None
    video = cv2.VideoCapture(path)
    video.set(cv2.CAP_PROP_POS_FRAMES, int(number))
    found, pixels = video.read()
    video.release()
    if not found:
        raise PosewireError(f"{path} is no video with a frame {number}")
    return Frame(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8))


async def _cells(column: Column, frames: dict[str, Frame]) -> tuple[str, list[Cell]]:
    """The heading of a column and its cells, with the thresholds of the column."""
    engine = load_engine(column.settings, Metrics())
    await engine.start()
    try:
        cells = []
        for name, frame in frames.items():
            result = await engine.estimate_frame(frame, column.settings.pose_options())
            people = counted(len(result.people), "person", "people")
            cells.append(Cell(f"{name}: {people}", engine.draw_pixels(frame, result)))
    finally:
        await engine.close()
    return f"{column.title}: {engine.detector.spec.name} + {engine.pose.spec.name}", cells


def draw_sheet(headings: Sequence[str], columns: Sequence[Sequence[Cell]], row_height: int) -> UInt8Array:
    """Lay out a grid: headings, then rows of images, each above its caption.

    Images keep their aspect. They are as high as the row or, where that is too wide for the sheet, as wide as the column.

    Args:
        headings: of the columns.
        columns: of cells, all of the same number of rows.
        row_height: pixels, of an image at most.

    Returns:
        (H, W, 3) uint8, RGB, W at most `WIDTH`.
    """
    widest = (WIDTH - GAP) // len(columns) - GAP
    scaled = [[_scale(cell.pixels, widest, row_height) for cell in column] for column in columns]
    cell_width = max(image.shape[1] for column in scaled for image in column)
    heights = [max(image.shape[0] for image in row) for row in zip(*scaled, strict=True)]
    height = GAP + LINE + sum(h + LINE + GAP for h in heights)
    sheet = np.full((height, GAP + len(columns) * (cell_width + GAP), 3), 255, np.uint8)
    for i, (heading, cells, images) in enumerate(zip(headings, columns, scaled, strict=True)):
        left, top = GAP + i * (cell_width + GAP), GAP + LINE
        _write(sheet, heading, left, GAP, cell_width)
        for cell, image, row in zip(cells, images, heights, strict=True):
            h, w = image.shape[:2]
            sheet[top : top + h, left : left + w] = image
            _write(sheet, cell.caption, left, top + h, cell_width)
            top += row + LINE + GAP
    return sheet


def _scale(pixels: UInt8Array, width: int, height: int) -> UInt8Array:
    """Scale into a box, aspect kept."""
    h, w = pixels.shape[:2]
    scale = min(width / w, height / h)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)


def _write(sheet: UInt8Array, text: str, left: int, top: int, width: int) -> None:
    """A line of text that is not wider than its column."""
    (length, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(0.55, width / max(length, 1))
    cv2.putText(sheet, text, (left, top + LINE - 8), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
