"""Collect outcomes, and write them as shards while further images are processed."""

from collections.abc import Callable

from posewire.batch.items import Ended, Outcome
from posewire.batch.output import Output
from posewire.batch.tally import Tally


class Pending:
    """Outcomes that are not written yet.

    Args:
        output: that is written.
        tally: is told of everything.
        on_change: called after each image.
        shard_images: a shard has so many images and failures.
    """

    def __init__(self, output: Output, tally: Tally, on_change: Callable[[Tally], None], shard_images: int) -> None:
        self._output = output
        self._tally = tally
        self._on_change = on_change
        self._shard_images = shard_images
        self._outcomes: list[Outcome] = []
        self._ended: list[Ended] = []

    @property
    def full(self) -> bool:
        """True if there is enough for a shard."""
        return len(self._outcomes) >= self._shard_images

    def add(self, outcome: Outcome) -> None:
        """Take what came of an image."""
        self._outcomes.append(outcome)
        self._tally.add(outcome)
        self._on_change(self._tally)

    def end(self, ended: Ended) -> None:
        """Take the end of a source; all its images were added before."""
        self._ended.append(ended)
        self._tally.end(ended)
        self._on_change(self._tally)

    def take(self) -> Callable[[], None]:
        """Return a function that writes all that was added until now. It may run on a thread, one at a time."""
        outcomes, ended = self._outcomes, self._ended
        self._outcomes, self._ended = [], []
        return lambda: self._output.write(outcomes, ended)
