"""One WebRTC peer, in a process of its own: what it sends, and what is sent to it."""

import asyncio
import json
import logging
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import unquote

import numpy as np

from posewire.errors import ClientGone, DecoderFailed, NotInstalled, Overloaded, ServiceError, TimedOut
from posewire.types import Frame, UInt8Array
from posewire.video.messages import environment, frame_fields, parse_head
from posewire.webrtc.offers import Candidate, Offer

T = TypeVar("T")

_MAIN: Final = "import sys; from posewire.webrtc.peer import run; run(int(sys.argv[1]))"
_MAX_LINE: Final = 1_048_576
_ANSWER_S: Final = 30.0  # a busy machine takes seconds to start a process
_CLOSE_S: Final = 4.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class PeerFrame:
    """The newest frame that a peer has sent."""

    index: int  # counts the frames that arrived, from 0
    pts_s: float  # seconds on the clock of the peer's track, from its first frame
    at: float  # when it was decoded, seconds, monotonic
    frame: Frame


def require_aiortc() -> None:
    """Raise NotInstalled if aiortc is not installed."""
    if find_spec("aiortc") is None:
        raise NotInstalled("WebRTC needs aiortc, which is not installed here: pip install 'posewire[webrtc]'")


class PeerProcess:
    """One WebRTC peer. `start` it, and `close` it in any case.

    Args:
        process: runs `posewire.webrtc.peer`.
        max_pixels: limit of pixels of one frame.
    """

    def __init__(self, process: Process, max_pixels: int) -> None:
        self._process = process
        self._max_pixels = max_pixels
        self._input = cast("asyncio.StreamWriter", process.stdin)
        self._output = cast("asyncio.StreamReader", process.stdout)
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._answer: str | None = None
        self._open = False
        self._frame: PeerFrame | None = None
        self._last = -1
        self._end: ServiceError | None = None
        self._reading = asyncio.create_task(self._read(), name="webrtc-peer")

    @classmethod
    async def start(cls, offer: Offer, *, publishes: bool, max_pixels: int, servers: Sequence[str]) -> Self:
        """Start the process of a peer.

        Args:
            offer: of the peer.
            publishes: it sends video; False: it only looks.
            max_pixels: limit of pixels of one frame.
            servers: STUN and TURN servers, as the setting has them.

        Raises:
            Overloaded: the system has no room for another process.
            NotInstalled: aiortc is not installed.
        """
        require_aiortc()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _MAIN, str(max_pixels),
                stdin=PIPE, stdout=PIPE, env=environment(), start_new_session=True, limit=_MAX_LINE,
            )  # fmt: skip
        except OSError as error:
            raise Overloaded(
                f"no process can be started for the peer: {error.strerror}; try again later", limit="processes", retry_after_s=10
            ) from None
        peer = cls(process, max_pixels)
        sections = [asdict(section) for section in offer.sections]
        first = {"offer": offer.sdp, "sections": sections, "servers": [_server(each) for each in servers], "publishes": publishes}
        try:
            await peer._write(first)
        except BaseException:
            await peer.close()
            raise
        return peer

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def end(self, reason: ServiceError) -> None:
        """Make every call that waits, and every later one, raise this; the first reason counts."""
        if self._end is None:
            self._end = reason
        self._changed.set()

    async def answer(self) -> str:
        """Return the answer to the offer.

        Raises:
            BadOffer: the offer cannot be answered.
            DecoderFailed: the process has died.
            TimedOut: it takes too long.
        """
        return await self._wait(lambda: self._answer, _ANSWER_S, "the offer was not answered in time; try again later")

    async def opened(self, within_s: float) -> None:
        """Wait until the peer has connected, and has opened its data channel if its offer has one.

        Raises:
            TimedOut: it has not.
            ClientGone: it has left.
            ServiceError: as given to `end`.
        """
        detail = f"the peer did not connect, and open its data channel, within {within_s:g} seconds"
        await self._wait(lambda: self._open or None, within_s, detail)

    async def newest(self, within_s: float) -> PeerFrame:
        """Wait for a frame that was not returned before, and until the peer has read its messages.

        Raises:
            TimedOut: it sends no frames, or reads no messages.
            ServiceError: as `opened`; TooLarge: a frame has too many pixels.
        """
        await self._write({"want": True})
        frame = await self._wait(lambda: self._frame, within_s, f"no frame came, or no result was read, for {within_s:g} seconds")
        self._frame = None
        return frame

    async def gone(self) -> None:
        """Wait until the peer leaves, or `end` is called; raises the reason."""
        while True:
            await self._change()

    async def send(self, text: str) -> None:
        """Send a message on the data channel; wait while the process takes no more."""
        await self._write({"text": text})

    async def draw(self, pixels: UInt8Array) -> None:
        """Show a frame, (H, W, 3) uint8 RGB, in the video that the peer receives; wait while the process takes no more."""
        await self._write({"draw": True, "width": pixels.shape[1], "height": pixels.shape[0]}, np.ascontiguousarray(pixels).data)

    async def add(self, candidates: Sequence[Candidate]) -> None:
        """Add addresses of the peer."""
        await self._write({"candidates": [asdict(candidate) for candidate in candidates]})

    async def close(self, text: str | None = None) -> None:
        """End the connection and the process, after a last message."""
        if self._process.returncode is None:
            with suppress(TimeoutError, ServiceError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._write({"close": text}, even_if_ended=True)
                    await self._process.wait()
        with suppress(ProcessLookupError):
            self._process.kill()
        self._input.close()
        with suppress(ConnectionError):
            await self._input.wait_closed()
        await self._process.wait()
        await self._reading

    async def _write(self, head: Mapping[str, object], pixels: memoryview | None = None, *, even_if_ended: bool = False) -> None:
        if self._end is not None and not even_if_ended:
            raise self._end
        async with self._writing:
            self._input.write(json.dumps(head).encode() + b"\n")
            if pixels is not None:
                self._input.write(pixels.cast("B"))
            try:
                await self._input.drain()
            except ConnectionError:
                raise DecoderFailed("the process of the peer has died") from None

    async def _wait(self, value: Callable[[], T | None], within_s: float, detail: str) -> T:
        try:
            async with asyncio.timeout(within_s):
                while True:
                    if self._end is not None:
                        raise self._end
                    if (found := value()) is not None:
                        return found
                    await self._change()
        except TimeoutError:
            raise TimedOut(detail) from None

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
        if self._end is not None:
            raise self._end

    async def _read(self) -> None:
        """Take what the process says, until its end."""
        try:
            while line := await self._output.readline():
                await self._take(parse_head(line))
                self._changed.set()
        except ServiceError as error:
            self.end(error)
        except (ValueError, KeyError, TypeError, asyncio.IncompleteReadError):
            log.error("the process of a WebRTC peer says what it should not")
            self.end(DecoderFailed("the process of the peer has failed"))
            with suppress(ProcessLookupError):
                self._process.kill()
        code = await self._process.wait()
        if code and self._end is None:
            log.error("the process of a WebRTC peer has died", extra={"exit_code": code})
        self.end(DecoderFailed("the process of the peer has died; connect again"))

    async def _take(self, head: Mapping[str, Any]) -> None:
        if "answer" in head:
            self._answer = str(head["answer"])
        elif "open" in head:
            self._open = True
        elif "left" in head:
            self.end(ClientGone("the peer has left"))
        else:
            index, pts_s, width, height = frame_fields(head, self._max_pixels)
            if index <= self._last:
                raise ValueError("the frames are not in order")
            self._last = index
            at = min(float(head["at"]), time.monotonic())
            data = await self._output.readexactly(3 * width * height)
            self._frame = PeerFrame(index, pts_s, at, Frame(np.frombuffer(data, np.uint8).reshape(height, width, 3)))


def _server(address: str) -> dict[str, str]:
    """Return an entry of the setting as aiortc's `RTCIceServer` has it: turn:USER:PASSWORD@HOST has the credentials apart."""
    scheme, _, rest = address.partition(":")
    credentials, at, host = rest.rpartition("@")
    if not at:
        return {"urls": address}
    user, _, password = credentials.partition(":")
    return {"urls": f"{scheme}:{host}", "username": unquote(user), "credential": unquote(password)}
