"""Tells from the last runs of a model if it still works."""

import asyncio
from collections import deque

# An intermittent fault must show; a single bad input must not.
_IN_A_ROW = 5
_OF_LATE = 20


class Health:
    """A model fails when its last 5 runs have failed, or half of its last 20; it works again when neither is so."""

    def __init__(self) -> None:
        self.failing = asyncio.Event()
        self._runs: deque[bool] = deque(maxlen=_OF_LATE)

    def note(self, *, worked: bool) -> None:
        """Note how a run ended."""
        self._runs.append(worked)
        latest = list(self._runs)[-_IN_A_ROW:]
        if (len(latest) == _IN_A_ROW and not any(latest)) or 2 * self._runs.count(False) >= _OF_LATE:
            self.failing.set()
        else:
            self.failing.clear()
