"""Blocking clients: they run the async clients on an event loop in a thread."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from anyio import to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from posewire.client.answers import StreamResult
from posewire.client.requests import AsyncPoseClient
from posewire.client.stream import AsyncPoseStream
from posewire.client.video import AsyncPoseVideo, Video
from posewire.errors import ConnectionLost
from posewire.schemas.stream import StartedMessage
from posewire.schemas.video import EndLine, FrameLine, VideoLine

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


class PoseVideo:
    """The frames of a video: an iterator of `FrameLine`, and a context manager that closes the connection, like `AsyncPoseVideo`."""

    def __init__(self, portal: BlockingPortal, video: AsyncPoseVideo) -> None:
        self._portal = portal
        self._video = video

    def __enter__(self) -> Self:
        """Send the video and wait for the first line of the answer; raises the errors of `AsyncPoseVideo`."""
        self._portal.call(self._video.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection; if the video is not complete, the service stops working on it."""
        self._portal.call(self._video.close)

    @property
    def info(self) -> VideoLine:
        """Do the same as `AsyncPoseVideo.info`."""
        return self._video.info

    @property
    def end(self) -> EndLine | None:
        """Do the same as `AsyncPoseVideo.end`."""
        return self._video.end

    def __iter__(self) -> Self:
        """Return the iterator of frames."""
        return self

    def __next__(self) -> FrameLine:
        """Wait for the next frame; raises the errors of `AsyncPoseVideo`."""
        return _next(self._portal, self._video)


def _blocking(method: Callable[Concatenate[AsyncPoseClient, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate["PoseClient", P], T]:
    """Return a method that waits for a method of the async client; it has the same signature and docstring."""

    @wraps(method)
    def call(self: "PoseClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def run() -> T:
            return await method(self.client, *args, **kwargs)

        return self.portal.call(run)

    return call


class PoseClient:
    """A blocking client; a context manager. Its arguments are those of `AsyncPoseClient`."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        retries: int = 4,
        headers: Mapping[str, str] | None = None,
        patience_s: float = 60.0,
    ) -> None:
        self._make = partial(
            AsyncPoseClient, url, api_key=api_key, timeout_s=timeout_s, retries=retries, headers=headers, patience_s=patience_s
        )
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        """Start the thread."""
        self._portal = self._stack.enter_context(start_blocking_portal())
        self.client = self._stack.enter_context(self._portal.wrap_async_context_manager(self._make()))
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections and end the thread."""
        self._stack.close()

    @property
    def portal(self) -> BlockingPortal:
        """Return the way to the thread's event loop; raises ConnectionLost outside of `with`."""
        if self._portal is None:
            raise ConnectionLost("the client is not open: use it as `with PoseClient(url) as client:`")
        return self._portal

    pose = _blocking(AsyncPoseClient.pose)
    draw = _blocking(AsyncPoseClient.draw)
    models = _blocking(AsyncPoseClient.models)
    ready = _blocking(AsyncPoseClient.ready)

    def video(
        self,
        video: Video,
        *,
        track: bool = True,
        smooth: bool = True,
        detect_every: int | None = None,
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float | None = None,
    ) -> PoseVideo:
        """Return the frames of a video: an iterator of `FrameLine`; see `AsyncPoseClient.video`."""
        portal = self.portal
        frames = self.client.video(
            video,
            track=track,
            smooth=smooth,
            detect_every=detect_every,
            max_people=max_people,
            min_detection_score=min_detection_score,
            min_keypoint_score=min_keypoint_score,
        )
        return PoseVideo(portal, frames)

    def stream(
        self,
        *,
        track: bool = True,
        smooth: bool = True,
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float = 0.0,
    ) -> PoseStream:
        """Return a stream of frames, for `with`; see `AsyncPoseClient.stream`."""
        portal = self.portal
        stream = self.client.stream(
            track=track,
            smooth=smooth,
            max_people=max_people,
            min_detection_score=min_detection_score,
            min_keypoint_score=min_keypoint_score,
        )
        return PoseStream(portal, stream)


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
