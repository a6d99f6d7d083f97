"""The bar of a training: how far it is, how fast, and how long it will take."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the training with images of one size."""

    samples: int
    height: int  # pixels
    width: int  # pixels

    @property
    def pixels(self) -> int:
        """Of an image: what its time goes by."""
        return self.height * self.width


class Bar:
    """Call it after every step."""

    def __init__(self, progress: Progress, total: float, done: float) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total, loss=float("nan"), seen="")
        progress.update(self._task, completed=done)

    def __call__(self, done: float, size: str, seen: str, loss: float) -> None:
        """So much of the total is done, on images of this size, with this loss."""
        self._progress.update(self._task, completed=done, description=size, loss=loss, seen=seen)

    def tell(self, line: str) -> None:
        """Print a line on standard output, above the bar if one is shown there."""
        if self._progress.disable or not sys.stdout.isatty():
            print(line, flush=True)
        else:
            self._progress.console.print(line, highlight=False)


@contextmanager
def training_bar(total: float, done: float) -> Iterator[Bar]:
    """A bar on standard error, where a person watches.

    Args:
        total: what it counts to.
        done: before.
    """
    counts = TextColumn("{task.fields[seen]}"), TextColumn("loss {task.fields[loss]:.3f}")
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    console = Console(stderr=True)
    # A step may take seconds, and a machine that is shared is fast and slow by turns.
    with Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=900) as progress:
        yield Bar(progress, total, done)
