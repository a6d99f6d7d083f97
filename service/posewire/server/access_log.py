"""The access log: a line for every request that is answered, written without a picture's having to wait for it."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from typing import NamedTuple

from posewire.server.admission import Admission
from posewire.telemetry.logs import in_one_write

# Seconds that a line may wait.
_LONGEST_S = 0.1

log = logging.getLogger("posewire.access")


class _Line(NamedTuple):
    context: Context  # its request's
    level: int
    fields: Mapping[str, object]
    when: float  # seconds since the epoch


class AccessLog:
    """Lines of requests: at once where no picture is in flight, else together, a tenth of a second later at most.

    A line alone, with the caches emptied by the models, and its own write take several times what it takes among others: at
    saturation one picture in twenty-five is gained.

    Args:
        admission: knows whether pictures are in flight.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._lines: list[_Line] = []
        self._later: asyncio.TimerHandle | None = None

    def note(self, level: int, fields: Callable[[], Mapping[str, object]]) -> None:
        """Log a request, with the ids that the calling context has.

        Args:
            level: of logging.
            fields: what the line tells; not asked where the level is not kept.
        """
        if not log.isEnabledFor(level):
            return
        self._lines.append(_Line(copy_context(), level, fields(), time.time()))
        if not self._admission.in_flight:
            self.write()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(_LONGEST_S, self.write, context=Context())  # of no request

    def write(self) -> None:
        """Write what waits."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        lines, self._lines = self._lines, []
        with in_one_write():
            for line in lines:
                record = log.makeRecord(log.name, line.level, __file__, 0, "request", (), None, extra=line.fields)
                record.created, record.msecs = line.when, line.when % 1 * 1000
                line.context.run(log.handle, record)
