"""Limits: images, bytes and streams in the service at a time, and images a second from one client."""

import asyncio
import ipaddress
import logging
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from starlette.requests import HTTPConnection

from posewire.errors import Draining, Limit, Overloaded, RateLimited, ServiceError, TooLarge, TooManyStreams
from posewire.telemetry.metrics import Metrics

# The request's scope holds the name of the key's holder here; `auth.Access` sets it.
KEY_HOLDER = "posewire.key_holder"

# The drain rate is measured over the last seconds: older answers say little about the load now.
_DRAIN_WINDOW_S = 10.0
_MAX_RETRY_S = 60

# Under overload a line for each rejected request would be most of the log.
_LOG_SHED_EVERY_S = 1.0

# The rate limit remembers this many clients; a client that is forgotten starts with a full bucket.
_MAX_CLIENTS = 10_000

# One subscriber has at least so many bits of IPv6 addresses (RFC 6177), so single addresses limit nobody.
_IPV6_CLIENT_BITS = 64

log = logging.getLogger("posewire.access")


def client_of(connection: HTTPConnection) -> str:
    """Return the client of a connection, for limits and the log.

    The client is `key NAME` where the request has a key, else `address ADDRESS`, or `address NETWORK` for an IPv6 address.
    A host that is no address is `address unknown`: a trusted proxy may pass on any text of `X-Forwarded-For`.
    """
    return _name_of(_origin_of(connection))


# The holder of the key, if there is one, and the host: cheaper to count than the client's name.
_Origin: TypeAlias = tuple[str | None, str | None]


def _origin_of(connection: HTTPConnection) -> _Origin:
    address = connection.scope.get("client")
    return connection.scope.get(KEY_HOLDER), address[0] if address else None


def _name_of(origin: _Origin) -> str:
    holder, host = origin
    return f"key {holder}" if holder else f"address {address_of(host)}"


def address_of(host: str | None) -> str:
    """Return the address of a client, its network if it has IPv6, or `unknown`."""
    return "unknown" if host is None else _network_of(host)


def _network_of(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_CLIENT_BITS), strict=False))


class Admission:
    """Limits the images in flight, and rejects the others with a time after which to try again.

    Args:
        limit: images in flight.
        metrics: counts the images in flight.
    """

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self.in_flight = 0
        self._metrics = metrics
        metrics.set_limit("images", limit)
        self._left_at: deque[float] = deque(maxlen=4096)  # when images left, seconds, monotonic
        self._shed: Counter[_Origin] = Counter()  # requests since the last log line

    def shed_load(self, connection: HTTPConnection) -> None:
        """Reject a request before its body is read if all places are taken.

        One log line a second has the number of such requests and of their clients; they have no lines of their own.

        Raises:
            Overloaded: all places are taken.
        """
        if full := self._full(1, "images"):
            if not self._shed:
                asyncio.get_running_loop().call_later(_LOG_SHED_EVERY_S, self._log_shed, context=Context())  # without a request id
            self._shed[_origin_of(connection)] += 1
            raise full

    def enter(self, images: int) -> AbstractContextManager[None]:
        """Hold places for `images` images, all or none, while a block runs.

        Raises:
            Overloaded: the images do not fit; raised where the block is entered.
        """
        return self._hold(images) if images else nullcontext()

    @contextmanager
    def _hold(self, images: int) -> Iterator[None]:
        if full := self._full(images, "request-images"):
            raise full
        self.in_flight += images
        self._metrics.change_images_in_flight(images)
        try:
            yield
        finally:
            self.in_flight -= images
            self._metrics.change_images_in_flight(-images)
            self._left_at.extend([time.monotonic()] * images)

    def _full(self, images: int, limit: Limit) -> Overloaded | None:
        """Return the error if the images do not fit; `limit` is its name for it."""
        if self.in_flight + images <= self.limit:
            return None
        return Overloaded(
            f"{self.in_flight} of {self.limit} images are in flight, {images} more do not fit; try again later",
            limit=limit,
            retry_after_s=self._retry_after(images),
        )

    def _retry_after(self, images: int) -> int:
        """Return the whole seconds until the measured drain rate has made room."""
        now = time.monotonic()
        while self._left_at and self._left_at[0] < now - _DRAIN_WINDOW_S:
            self._left_at.popleft()
        if not self._left_at:
            return 1
        rate = len(self._left_at) / max(now - self._left_at[0], 0.1)
        return min(_MAX_RETRY_S, max(1, math.ceil((self.in_flight + images - self.limit) / rate)))

    def _log_shed(self) -> None:
        clients: Counter[str] = Counter()
        for origin, requests in self._shed.items():
            clients[_name_of(origin)] += requests
        [(busiest, most)] = clients.most_common(1)
        fields = {"requests": clients.total(), "clients": len(clients), "busiest_client": busiest, "its_requests": most}
        kind = {"status": Overloaded.status, "problem": Overloaded.slug, "limit": "images"}
        log.warning("requests rejected before their bodies were read", extra={**fields, **kind, "in_flight": self.in_flight})
        self._shed.clear()


class ByteBudget:
    """Limits the bytes of request bodies in memory: all together, and those of one client to half of that.

    Args:
        limit: bytes of all requests.
        metrics: reports the bytes in memory.
    """

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self.client_limit = limit // 2
        self.in_flight = 0
        self._clients: Counter[str] = Counter()
        self._metrics = metrics
        metrics.set_limit("bytes", limit)

    @contextmanager
    def enter(self, client: str) -> Iterator["HeldBytes"]:
        """Yield the bytes of one request, none yet; they are given back when the block ends."""
        held = HeldBytes(self, client)
        try:
            yield held
        finally:
            held.reduce(0)

    def change(self, client: str, by: int) -> None:
        """Change the bytes of a client; `by` may be negative.

        Raises:
            Overloaded: they do not fit. Nothing is changed.
        """
        if by > 0 and self.in_flight + by > self.limit:
            raise Overloaded("the service holds as many bytes of requests as it may; try again later", limit="bytes", retry_after_s=1)
        if by > 0 and self._clients[client] + by > self.client_limit:
            raise Overloaded(
                "the requests of this client hold as many bytes as one client may; try again later", limit="client-bytes", retry_after_s=1
            )
        self.in_flight += by
        self._clients[client] += by
        if not self._clients[client]:
            del self._clients[client]
        self._metrics.set_body_bytes_in_flight(self.in_flight)


class HeldBytes:
    """The bytes that one request holds in memory.

    Args:
        budget: limits them.
        client: sends the request.
    """

    def __init__(self, budget: ByteBudget, client: str) -> None:
        self._budget = budget
        self._client = client
        self._bytes = 0

    def add(self, count: int) -> None:
        """Hold `count` bytes more.

        Raises:
            TooLarge: the request alone has more bytes than one client may hold.
            Overloaded: the bytes do not fit beside those of other requests.
        """
        if self._bytes + count > self._budget.client_limit:
            raise TooLarge(f"the request needs more than the {self._budget.client_limit} bytes of memory that one client may hold")
        self._budget.change(self._client, count)
        self._bytes += count

    def reduce(self, count: int) -> None:
        """Give bytes back, until at most `count` are held."""
        if count < self._bytes:
            self._budget.change(self._client, count - self._bytes)
            self._bytes = count


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float  # when, seconds


class RateLimit:
    """A token bucket for each client: `rate` images a second, `burst` at once.

    `client_of` names the client, by nothing that a client may choose.

    Args:
        rate: images a second; 0: no limit.
        burst: images that may come at once.
        clock: seconds, never going back.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def charge(self, connection: HTTPConnection, images: int) -> None:
        """Take the images off the client's bucket; more than the burst need a full bucket, and leave a debt.

        Raises:
            RateLimited: they are too many now, with the seconds until they are not. Nothing is taken.
        """
        if not self._rate:
            return
        bucket = self._bucket(client_of(connection))
        missing = min(images, self._burst) - bucket.tokens
        if missing > 0:
            raise RateLimited(
                f"more than {self._rate:g} images a second; send fewer, or try again later", retry_after_s=math.ceil(missing / self._rate)
            )
        bucket.tokens -= images

    def _bucket(self, client: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(client, _Bucket(self._burst, now))
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled) * self._rate)
        bucket.filled = now
        self._buckets.move_to_end(client)
        if len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return bucket


class OpenStream(Protocol):
    """Something that holds a slot, such as the buffer of a stream."""

    def end(self, reason: ServiceError) -> None:
        """End it soon."""


class StreamSlots:
    """Limits the open streams, and ends them when the service stops.

    Args:
        limit: streams at a time.
        client_limit: streams of one client at a time; 0: no limit.
        metrics: reports the number of open streams.
    """

    def __init__(self, limit: int, client_limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self._client_limit = client_limit
        self._metrics = metrics
        metrics.set_limit("streams", limit)
        self._clients: dict[OpenStream, str] = {}
        self._all_closed = asyncio.Event()

    @contextmanager
    def enter(self, stream: OpenStream, client: str) -> Iterator[None]:
        """Hold a slot for a stream of this client.

        Raises:
            TooManyStreams: the client has as many streams as it may.
            Overloaded: no slot is free.
        """
        if self._client_limit and list(self._clients.values()).count(client) >= self._client_limit:
            raise TooManyStreams(f"{self._client_limit} streams of this client are open; close one, or try again later", retry_after_s=1)
        if len(self._clients) >= self.limit:
            raise Overloaded(f"{self.limit} streams are open, more are not taken; try again later", limit="streams", retry_after_s=1)
        self._clients[stream] = client
        self._metrics.set_streams(len(self._clients))
        try:
            yield
        finally:
            del self._clients[stream]
            self._metrics.set_streams(len(self._clients))
            if not self._clients:
                self._all_closed.set()

    async def close(self, within_s: float) -> None:
        """End every stream after the frame that it is answering, and wait until all have ended, or `within_s` seconds."""
        for stream in self._clients:
            stream.end(Draining())
        if self._clients:
            self._all_closed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), within_s)
