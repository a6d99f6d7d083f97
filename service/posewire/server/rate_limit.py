"""How many pictures a second one client may send."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from posewire.errors import RateLimited
from posewire.server.clients import client_of

# Clients that are remembered; who is forgotten begins with a full bucket.
_MOST_CLIENTS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float  # when, seconds


class RateLimit:
    """A token bucket for each client: `rate` pictures a second, `burst` at once.

    A client is who `client_of` says: nothing that a client may choose.

    Args:
        rate: pictures a second; 0: no limit.
        burst: pictures that may come at once.
        clock: seconds, never going back.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def charge(self, connection: HTTPConnection, pictures: int) -> None:
        """Take the pictures off the client's bucket; more than the burst need a full one, and leave a debt.

        Raises:
            RateLimited: they are too many now; says when they will not be. Nothing is taken.
        """
        if not self._rate:
            return
        bucket = self._bucket(client_of(connection))
        missing = min(pictures, self._burst) - bucket.tokens
        if missing > 0:
            raise RateLimited(
                f"more than {self._rate:g} pictures a second; send fewer, or try again later", retry_after_s=math.ceil(missing / self._rate)
            )
        bucket.tokens -= pictures

    def _bucket(self, client: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(client, _Bucket(self._burst, now))
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled) * self._rate)
        bucket.filled = now
        self._buckets.move_to_end(client)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return bucket
