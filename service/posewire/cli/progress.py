"""Progress bars for long commands."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from posewire.words import counted

if TYPE_CHECKING:
    from posewire.batch.tally import Tally

_LINE_S = 10.0  # between two lines of a command whose standard error is no terminal


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error, if it is a terminal and `total` is more than one.

    Yields:
        A function to call when one more is done.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=total < 2 or not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def video_progress(frames: int | None, what: str) -> Iterator[Callable[[], None]]:
    """Show a bar of frames with rate and remaining time on standard error, if it is a terminal.

    Args:
        frames: approximate number; None: unknown.
        what: label of the bar.

    Yields:
        A function to call when one more is done.
    """
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=frames, rate="")

        def advance() -> None:
            bar.advance(task)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f} frames/s" if speed else "")

        yield advance


@contextmanager
def batch_progress(tally: "Tally") -> "Iterator[Callable[[Tally], None]]":
    """Show a bar with the rate of images and the remaining time on standard error; if it is no terminal, print a line every ten seconds.

    The bar's length is the size of the sources: the number of images in archives is not known before they are read.

    Args:
        tally: before the first image.

    Yields:
        A function to call when it has changed.
    """
    started, total = time.monotonic(), tally.total or 1.0
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(_batch_line(tally, 0.0), total=total, completed=round(tally.weight))
        lines = 1

        def show(now: "Tally") -> None:
            nonlocal lines
            seconds = time.monotonic() - started
            if console.is_terminal:
                bar.update(task, completed=now.weight, description=_batch_line(now, seconds))
            elif seconds >= lines * _LINE_S:
                lines = 1 + int(seconds // _LINE_S)
                print(f"posewire: {_batch_line(now, seconds)}, {min(1.0, now.weight / total):.0%}", file=sys.stderr, flush=True)

        yield show


def _batch_line(tally: "Tally", seconds: float) -> str:
    done = tally.images + tally.failures
    rate = f", {done / seconds:.1f} images/s" if done else ""
    return f"{counted(tally.done_before + done, 'image', 'images')}{f' ({tally.failures} failed)' if tally.failures else ''}{rate}"


@contextmanager
def download_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar of bytes with rate and remaining time for each file on standard error. If it is no terminal, print a line per file.

    Yields:
        A function to call with the name of a file, the number of bytes downloaded and, if known, the total.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def update(file: str, downloaded: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total, completed=downloaded)
                if not console.is_terminal:
                    print(f"posewire: {_beginning(file, downloaded, total)}", file=sys.stderr, flush=True)
            bar.update(tasks[file], completed=downloaded, total=total)

        yield update


def _beginning(file: str, downloaded: int, total: int | None) -> str:
    size = "" if total is None else f", {total / 1e6:.1f} MB"
    return f"downloading {file}{size}" + (f", of which {downloaded / 1e6:.1f} MB are here" if downloaded else "")
