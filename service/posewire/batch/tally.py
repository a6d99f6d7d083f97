"""How far a batch is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from posewire.batch.items import Ended, Failure, Outcome
from posewire.batch.reading import weight_of
from posewire.batch.sources import Source


@dataclass(slots=True)
class Tally:
    """Counts of this run, and the share of the sources that is done."""

    total: float  # weight of all sources
    weight: float = 0.0  # of what is done, also by runs before
    images: int = 0  # with a result
    people: int = 0
    failures: int = 0
    done_before: int = 0  # images and failures of runs before

    @classmethod
    def of(cls, sources: Sequence[Source], todo: Sequence[Source], done_before: int) -> Self:
        """Return the tally before the first image.

        Args:
            sources: all of them.
            todo: those that are not done.
            done_before: images and failures of runs before.
        """
        total = sum(map(weight_of, sources))
        return cls(total, total - sum(map(weight_of, todo)), done_before=done_before)

    def add(self, outcome: Outcome) -> None:
        """Count an image."""
        self.weight += outcome.weight
        if isinstance(outcome.result, Failure):
            self.failures += 1
        else:
            self.images += 1
            self.people += len(outcome.result.people)

    def end(self, ended: Ended) -> None:
        """Count the end of a source with several images."""
        self.weight += ended.weight
