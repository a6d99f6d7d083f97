"""Who is told of batches."""

from typing import Protocol


class BatchObserver(Protocol):
    """Who is told of every batch; called on the event loop and on the pool's threads."""

    def started(self, size: int) -> None:
        """A batch of `size` items starts."""

    def ran(self, seconds: float) -> None:
        """A batch took this long."""

    def waited(self, seconds: float) -> None:
        """An item waited this long before its batch started."""

    def failed(self) -> None:
        """A batch raised."""


class Unobserved:
    """Nobody is told."""

    def started(self, size: int) -> None:
        """No."""

    def ran(self, seconds: float) -> None:
        """No."""

    def waited(self, seconds: float) -> None:
        """No."""

    def failed(self) -> None:
        """No."""
