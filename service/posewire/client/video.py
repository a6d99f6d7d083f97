"""The client of `POST /v1/video`: it sends a file from the disk, and yields the answer line by line."""

import asyncio
import io
import os
import selectors
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Self, TypeAlias, cast

import httpcore
import httpx
from pydantic import Field, TypeAdapter, ValidationError

from posewire.errors import ConnectionLost, UnexpectedAnswer, error_of
from posewire.schemas.pose import describe
from posewire.schemas.video import EndLine, ErrorLine, FrameLine, VideoLine

# A path, the bytes of a file, or a file that is open in binary mode.
Video: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO

# The service gives up a video after 60 seconds without a frame.
LINE_TIMEOUT_S = 75.0

_PIECE_BYTES = 1 << 18

_Line: TypeAlias = VideoLine | FrameLine | EndLine | ErrorLine
_LINE: TypeAdapter[_Line] = TypeAdapter(Annotated[_Line, Field(discriminator="type")])


@dataclass(frozen=True, slots=True)
class VideoUpload:
    """A video that is read piece by piece while it is sent, never all at once."""

    file: BinaryIO
    start: int | None  # where the video begins in the file; None: a pipe, which can be read only once
    length: int | None  # bytes; None: a pipe

    async def pieces(self, early: "EarlyAnswer") -> AsyncIterator[bytes]:
        """Yield the bytes, from the beginning; stop if the answer comes before the end."""
        if self.start is not None:
            await asyncio.to_thread(self.file.seek, self.start)
        while piece := await asyncio.to_thread(self.file.read, _PIECE_BYTES):
            early.check()
            yield piece


class EarlyAnswer:
    """Notices an answer that comes while the body is still sent, because the service rejects the video by its head.

    The service then closes the connection. If the client went on to write, it would lose the answer. TLS has messages of its own, so there
    nothing is noticed; a proxy that ends TLS usually waits for the client to read.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take the socket of a new connection: a trace extension of httpx."""
        if event == "connection.connect_tcp.complete":
            self._socket = info["return_value"].get_extra_info("socket")
        elif event.startswith("connection.start_tls"):
            self._socket = None

    def check(self) -> None:
        """Raise `httpcore.WriteError` if there is something to read: httpcore ends the writing then, and reads the answer."""
        if self._socket is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            if selector.select(0):
                raise httpcore.WriteError("the answer comes before the end of the body")


@asynccontextmanager
async def open_video(video: Video) -> AsyncIterator[VideoUpload]:
    """Open a video, and close it unless the caller had opened it.

    Raises:
        TypeError: it is neither a path, nor bytes, nor a file in binary mode.
        OSError: the file cannot be opened or read.
    """
    if isinstance(video, str | os.PathLike):
        file = await asyncio.to_thread(Path(video).open, "rb")
        try:
            yield await asyncio.to_thread(_measure, file)
        finally:
            file.close()
    elif isinstance(video, bytes):
        yield _measure(io.BytesIO(video))
    elif callable(getattr(video, "read", None)) and not hasattr(video, "encoding"):  # a file in text mode has an encoding
        yield await asyncio.to_thread(_measure, video)
    else:
        raise TypeError(f"a video is a path, bytes or a file in binary mode, not {type(video).__name__}")


def _measure(file: BinaryIO) -> VideoUpload:
    if not file.seekable():
        return VideoUpload(file, None, None)
    start = file.tell()
    return VideoUpload(file, start, file.seek(0, os.SEEK_END) - start)


class AsyncPoseVideo:
    """The frames of a video: an async iterator of `FrameLine`, and an async context manager that closes the connection.

    The iteration sends the video if the block of `async with` has not done so. Leave the loop early only inside of `async with`: else the
    service works on the video until the client is closed.

    Args:
        send: sends the video, and returns an answer whose body is not read yet.
    """

    def __init__(self, send: Callable[[], Awaitable[httpx.Response]]) -> None:
        self._send = send
        self._lines: AsyncGenerator[VideoLine | FrameLine | EndLine, None] | None = None
        self._info: VideoLine | None = None
        self._end: EndLine | None = None

    async def __aenter__(self) -> Self:
        """Send the video and wait for the first line of the answer; raises the errors of `__anext__`."""
        self._lines = _lines(await self._send())
        line = await anext(self._lines)
        if not isinstance(line, VideoLine):
            await self.close()
            raise UnexpectedAnswer(f"the answer to a video begins with a line of type {line.type!r}")
        self._info = line
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection; if the video is not complete, the service stops working on it."""
        await self.close()

    async def close(self) -> None:
        """Do the same as the end of `async with`."""
        if self._lines is not None:
            await self._lines.aclose()

    @property
    def info(self) -> VideoLine:
        """Return the properties of the video: size, frame rate, number of frames, models.

        Raises:
            ConnectionLost: the video is not sent yet.
        """
        if self._info is None:
            raise ConnectionLost("the video is not sent yet: use `async with` (or `with`), or take the first frame")
        return self._info

    @property
    def end(self) -> EndLine | None:
        """Return the last line, with the number of frames and of different people; None before the end."""
        return self._end

    def __aiter__(self) -> Self:
        """Return the iterator of frames."""
        return self

    async def __anext__(self) -> FrameLine:
        """Wait for the next frame.

        Raises:
            ServiceError: the service rejects the video, or it fails in the middle, such as BadVideo for damaged data.
            ConnectionLost: the service cannot be reached, or the answer ends before its last line.
            UnexpectedAnswer: the server is not Posewire.
            TypeError: the video is neither a path, nor bytes, nor a file in binary mode.
            OSError: the file cannot be opened or read.
        """
        if self._lines is None:
            await self.__aenter__()
        line = await anext(cast(AsyncIterator[FrameLine | EndLine], self._lines))
        if isinstance(line, FrameLine):
            return line
        self._end = line
        await self.close()
        raise StopAsyncIteration


async def _lines(answer: httpx.Response) -> AsyncGenerator[VideoLine | FrameLine | EndLine, None]:
    """Yield the lines of an answer, and close it; raises the errors of `AsyncPoseVideo.__anext__`."""
    rest = b""
    try:
        async for piece in answer.aiter_bytes():
            *complete, rest = (rest + piece).split(b"\n")  # httpx would also split at the line breaks of other alphabets
            for text in complete:
                line = _LINE.validate_json(text)
                if isinstance(line, ErrorLine):
                    raise error_of(line.problem.type.rpartition(":")[2], line.problem.detail)
                yield line
        raise ConnectionLost("the answer ends before its last line")
    except httpx.TransportError as error:
        raise ConnectionLost(f"the answer ends before its last line: {error or type(error).__name__}") from None
    except ValidationError as error:
        raise UnexpectedAnswer(f"{answer.url} does not answer as this version of Posewire does: {describe(error)}") from None
    finally:
        await answer.aclose()
