"""A WebRTC client for the tests: it sends made frames, and collects messages and images."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import httpx
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

from posewire.types import UInt8Array

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}

_CLOCK = 90_000


class Film(MediaStreamTrack):
    """Frames in a loop, at a rate."""

    kind = "video"

    def __init__(self, frames: Sequence[UInt8Array], rate: float = 10) -> None:
        super().__init__()
        self._frames = frames
        self._rate = rate
        self._sent = 0
        self._started = 0.0
        self.captured: list[float] = []  # when each frame was there, seconds, monotonic

    async def recv(self) -> VideoFrame:
        self._started = self._started or time.monotonic()
        await asyncio.sleep(self._started + self._sent / self._rate - time.monotonic())
        self.captured.append(time.monotonic())
        frame = VideoFrame.from_ndarray(self._frames[self._sent % len(self._frames)], format="rgb24")
        frame.pts, frame.time_base = round(self._sent / self._rate * _CLOCK), Fraction(1, _CLOCK)
        self._sent += 1
        return frame


class WebRtcClient:
    """One peer.

    Args:
        http: a client of the service.
        film: what it sends; None: nothing.
        channel: the name of its data channel; None: it has none.
        receive: it receives a video.
    """

    def __init__(
        self, http: httpx.AsyncClient, film: Film | None = None, *, channel: str | None = "posewire", receive: bool = False
    ) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.http = http
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.images: asyncio.Queue[VideoFrame] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.answer: httpx.Response
        self._reading: asyncio.Task[None] | None = None
        if channel is not None:
            opened = self.connection.createDataChannel(channel)
            opened.on("message", lambda text: self.messages.put_nowait(json.loads(text)))
            opened.on("close", self.closed.set)
        if film is not None:
            self.connection.addTransceiver(film, "sendrecv" if receive else "sendonly")
        elif receive:
            self.connection.addTransceiver("video", "recvonly")
        self.connection.on("track", self._take_track)
        self.connection.on("connectionstatechange", self._note_state)

    @property
    def address(self) -> httpx.URL:
        """Of the session."""
        return self.answer.request.url.join(self.answer.headers["Location"])

    async def offer(self) -> str:
        """The offer, with all candidates."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def open(self, path: str = "/v1/whip", *, offer: str | None = None, **query: str) -> httpx.Response:
        """Send the offer, and take the answer."""
        offer = offer or await self.offer()
        self.answer = await self.http.post(path, content=offer, headers=SDP, params=query)
        if self.answer.status_code == 201:
            await self.connection.setRemoteDescription(RTCSessionDescription(self.answer.text, "answer"))
        return self.answer

    async def message(self, kind: str | None = None) -> dict[str, Any]:
        """The next message, of a kind."""
        async with asyncio.timeout(60):
            while True:
                found = await self.messages.get()
                if kind in (None, found["type"]):
                    return found

    async def image(self) -> VideoFrame:
        """The next image that arrives."""
        async with asyncio.timeout(60):
            return await self.images.get()

    def _take_track(self, track: MediaStreamTrack) -> None:
        self._reading = asyncio.ensure_future(self._read(track))

    async def _read(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, VideoFrame)
            self.images.put_nowait(frame)

    def _note_state(self) -> None:
        if self.connection.connectionState in ("failed", "closed"):
            self.closed.set()

    async def close(self) -> None:
        await self.connection.close()
        if self._reading is not None:
            await self._reading


@asynccontextmanager
async def peer(
    http: httpx.AsyncClient, film: Film | None = None, *, channel: str | None = "posewire", receive: bool = False
) -> AsyncIterator[WebRtcClient]:
    """A peer that is closed in the end."""
    client = WebRtcClient(http, film, channel=channel, receive=receive)
    try:
        yield client
    finally:
        await client.close()
