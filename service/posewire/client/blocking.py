"""Blocking clients: they run the async clients on an event loop in a thread."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from anyio import to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from posewire.client.answers import StreamResult
from posewire.client.requests import AsyncPoseClient
from posewire.client.stream import AsyncPoseStream
from posewire.schemas.stream import StartedMessage

P = ParamSpec("P")
T = TypeVar("T")


class PoseStream:
    """A stream of frames: a context manager and an iterator of results, like `AsyncPoseStream`."""

    def __init__(self, portal: BlockingPortal, stream: AsyncPoseStream) -> None:
        self._portal = portal
        self._stream = stream

    def __enter__(self) -> Self:
        """Connect; raises the errors of `AsyncPoseStream`."""
        self._portal.call(self._stream.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        """End the stream."""
        self._portal.call(self._stream.close)

    @property
    def started(self) -> StartedMessage:
        """Return the service's answer to the start: names of the keypoints, skeleton, limits."""
        return self._stream.started

    def offer(self, data: bytes) -> int:
        """Do the same as `AsyncPoseStream.offer`."""
        return self._portal.call(self._stream.offer, data)

    def put(self, data: bytes) -> int:
        """Do the same as `AsyncPoseStream.put`."""
        return self._portal.call(self._stream.put, data)

    def __iter__(self) -> Self:
        """Return the iterator of results."""
        return self

    def __next__(self) -> StreamResult:
        """Wait for the next result; raises the errors of `AsyncPoseStream`."""
        return _next(self._portal, self._stream)

    def results(self, frames: Iterable[bytes], *, every: bool = False) -> Iterator[StreamResult]:
        """Do the same as `AsyncPoseStream.results`; `frames` is iterated on another thread, one step at a time."""
        results = self._stream.results(_on_a_thread(frames), every=every)
        try:
            while True:
                try:
                    result = _next(self._portal, results)
                except StopIteration:
                    return
                yield result
        finally:
            self._portal.call(results.aclose)


def _blocking(method: Callable[Concatenate[AsyncPoseClient, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate["PoseClient", P], T]:
    def call(self: "PoseClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def run() -> T:
            return await method(self.client, *args, **kwargs)

        return self.portal.call(run)

    call.__doc__ = method.__doc__
    return call


def _streaming(
    method: Callable[Concatenate[AsyncPoseClient, P], AsyncPoseStream],
) -> Callable[Concatenate["PoseClient", P], PoseStream]:
    def call(self: "PoseClient", /, *args: P.args, **kwargs: P.kwargs) -> PoseStream:
        return PoseStream(self.portal, method(self.client, *args, **kwargs))

    call.__doc__ = method.__doc__
    return call


class PoseClient:
    """A blocking client; a context manager. Its arguments are those of `AsyncPoseClient`."""

    def __init__(
        self, url: str, *, timeout_s: float = 10.0, retries: int = 4, headers: Mapping[str, str] | None = None, patience_s: float = 60.0
    ) -> None:
        self._make = partial(AsyncPoseClient, url, timeout_s=timeout_s, retries=retries, headers=headers, patience_s=patience_s)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the thread."""
        self.portal = self._stack.enter_context(start_blocking_portal())
        self.client = self._stack.enter_context(self.portal.wrap_async_context_manager(self._make()))
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections and end the thread."""
        self._stack.close()

    pose = _blocking(AsyncPoseClient.pose)
    stream = _streaming(AsyncPoseClient.stream)


def _next(portal: BlockingPortal, results: AsyncIterator[T]) -> T:
    async def step() -> T | None:
        return await anext(results, None)

    result = portal.call(step)
    if result is None:
        raise StopIteration
    return result


async def _on_a_thread(frames: Iterable[bytes]) -> AsyncIterator[bytes]:
    iterator = iter(frames)
    end = object()  # unlike None, no frame is equal to it
    while (frame := await to_thread.run_sync(next, iterator, end)) is not end:
        yield cast(bytes, frame)
