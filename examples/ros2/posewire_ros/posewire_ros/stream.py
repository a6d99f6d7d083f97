"""The stream to a service, on a thread of its own. Nothing here needs ROS."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from posewire.client import AsyncPoseClient, AsyncPoseStream, StreamResult
from posewire.errors import BadPicture, ConnectionLost, PosewireError, ServiceError

_PATIENCE_S: Final = 5.0  # of one attempt to connect; then the next one follows
_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The people of one image."""

    header: Any  # of the image
    result: StreamResult
    connection: int  # a number that is another after each connection, also if the stream was opened anew
    names: list[str]  # of the keypoints
    limbs: list[tuple[int, int]]  # pairs of indices into `names`


class ServiceStream:
    """Sends the newest image and gives answers, until it is closed. The service may be away and come back.

    Args:
        url: of the service.
        api_key: of the service; None: it needs none.
        options: of the stream, as of `AsyncPoseClient.stream`.
        on_answer: takes each answer, on this stream's thread.
        on_note: takes a line when the service is away, rejects an image, or is there again.
        on_failure: takes the reason for which the stream has ended and will not come back, such as a wrong key.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        options: Mapping[str, Any],
        *,
        on_answer: Callable[[Answer], None],
        on_note: Callable[[str], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._url, self._api_key, self._options = url, api_key, dict(options)
        self._on_answer, self._on_note, self._on_failure = on_answer, on_note, on_failure
        self._stream: AsyncPoseStream | None = None
        self._headers: dict[int, Any] = {}  # by number of the image, until it or a later one is answered
        self._connections = 0  # of the streams before
        self._away = False
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None]
        self._begun = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._main()], name="posewire", daemon=True)
        self._thread.start()
        self._begun.wait()

    def offer(self, image: bytes, header: object) -> None:
        """Send an image (JPEG, PNG or WebP) unless a newer one comes first; without a connection it is dropped. Never waits."""
        self._call(self._offer, image, header)

    def close(self) -> None:
        """End the stream; no answer comes after it."""
        self._call(self._task.cancel)
        self._thread.join()

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the stream has failed
            self._loop.call_soon_threadsafe(function, *arguments)

    def _offer(self, image: bytes, header: object) -> None:
        if self._stream is not None:
            self._headers[self._stream.offer(image)] = header

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.create_task(self._run())
        self._begun.set()
        with contextlib.suppress(asyncio.CancelledError):  # `close` was called
            await self._task

    async def _run(self) -> None:
        try:
            await self._try_again()
        except Exception as error:
            self._on_failure(f"an answer could not be used: {error!r}")
            raise

    async def _try_again(self) -> None:
        async with AsyncPoseClient(self._url, api_key=self._api_key, patience_s=_PATIENCE_S) as client:
            while True:
                try:
                    await self._answers(client)
                except PosewireError as error:
                    if not _passes(error):
                        self._on_failure(str(error))
                        return
                    if not self._away:
                        self._on_note(f"{error}; trying again")
                    self._away = True
                    await asyncio.sleep(_PAUSE_S)

    async def _answers(self, client: AsyncPoseClient) -> None:
        """Give the answers of one stream until it ends."""
        last = 0
        try:
            async with client.stream(**self._options) as stream:
                self._stream = stream
                if self._away:
                    self._on_note("the service answers again")
                self._away = False
                async for result in stream:
                    last = result.connection
                    header = self._headers.get(result.frame)
                    self._headers = {number: kept for number, kept in self._headers.items() if number > result.frame}
                    if result.error is not None:
                        self._on_note(f"an image has no answer: {result.error}")
                    elif header is not None:
                        started = stream.started
                        connection = self._connections + result.connection
                        self._on_answer(Answer(header, result, connection, started.keypoints, started.skeleton))
        finally:
            self._stream, self._headers = None, {}
            self._connections += last + 1


def _passes(error: PosewireError) -> bool:
    """Return whether a later attempt may succeed."""
    if isinstance(error, ServiceError):
        return isinstance(error, BadPicture) or error.status >= 500 or error.status == 429  # ten broken images end a stream
    return isinstance(error, ConnectionLost)
