"""The bar of a training: how far it is, how fast, and how long it will take."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the training with pictures of one size."""

    samples: int
    height: int  # pixels
    width: int  # pixels

    @property
    def pixels(self) -> int:
        """Of a picture: what its time goes by."""
        return self.height * self.width


class Bar:
    """Call it after every step; time goes by pixels, so that stretches of larger pictures count for more."""

    def __init__(self, progress: Progress, stretches: Sequence[Stretch], seen: int) -> None:
        self._progress = progress
        self._stretches = stretches
        self._seen = seen
        self._samples = sum(stretch.samples for stretch in stretches)
        total = sum(stretch.samples * stretch.pixels for stretch in stretches)
        self._task = progress.add_task("", total=total, completed=self._cost(seen), loss=float("nan"), seen="")

    def __call__(self, stretch: int, samples: int, loss: float) -> None:
        """`samples` of a stretch were trained on, with this loss."""
        self._seen += samples
        at = self._stretches[stretch]
        self._progress.update(
            self._task,
            advance=samples * at.pixels,
            description=f"{at.height}x{at.width}",
            loss=loss,
            seen=f"{self._seen:,} of {self._samples:,}",
        )

    def tell(self, line: str) -> None:
        """Print a line on standard output, above the bar if one is shown there."""
        if self._progress.disable or not sys.stdout.isatty():
            print(line, flush=True)
        else:
            self._progress.console.print(line, highlight=False)

    def _cost(self, seen: int) -> int:
        """Pixels of the samples that were seen."""
        cost = 0
        for stretch in self._stretches:
            part = min(seen, stretch.samples)
            cost += part * stretch.pixels
            seen -= part
        return cost


@contextmanager
def training_bar(stretches: Sequence[Stretch], seen: int) -> Iterator[Bar]:
    """A bar on standard error, where a person watches.

    Args:
        stretches: of the training.
        seen: samples before.
    """
    counts = TextColumn("{task.fields[seen]}"), TextColumn("loss {task.fields[loss]:.3f}")
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    console = Console(stderr=True)
    # A step may take seconds, and a machine that is shared is fast and slow by turns.
    with Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=900) as progress:
        yield Bar(progress, stretches, seen)
