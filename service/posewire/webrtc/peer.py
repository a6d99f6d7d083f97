"""The process of one WebRTC peer: ICE, DTLS, SRTP and the codecs. What a hostile peer does to it ends it and nothing else.

Its standard input has commands of the service, and its standard output answers: a line of JSON each, and after that of a frame its pixels.

    commands: {"offer", "sections", "servers", "publishes"}, {"candidates"}, {"want"}, {"text"},
              {"draw", "width", "height"} + pixels, {"close"}
    answers:  {"answer"}, {"open"}, {"frame", "t_seconds", "at", "width", "height"} + pixels, {"left"}, {"error", "detail"}
"""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import IO, Any, Final

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceCandidate,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

from posewire.errors import BadOffer, ServiceError, TooLarge
from posewire.types import UInt8Array
from posewire.video.decoder import ignore_stop_signals, limit_memory
from posewire.video.messages import MessageOutput, send
from posewire.webrtc.channel import LABEL
from posewire.webrtc.offers import Section

# A client that reads has far fewer bytes waiting.
_MAX_BUFFERED: Final = 262_144
_MAX_LINE: Final = 8_388_608
_CLOCK: Final = 90_000  # ticks of a second, of every video track
_CLOSE_S: Final = 2.0
_LAST_WORDS_S: Final = 0.3  # for the last message to arrive: the closing does not wait for it


def run(max_pixels: int) -> None:
    """Serve one peer; the main function of the process. It ends when the service closes standard input or output.

    Args:
        max_pixels: limit of pixels of one frame.
    """
    ignore_stop_signals()
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no message
    logging.disable(logging.WARNING)  # a peer chooses how often aiortc warns of its packets
    try:
        limit_memory(max_pixels)
        asyncio.run(_serve(output, max_pixels))
    except (BrokenPipeError, asyncio.IncompleteReadError):
        pass  # the service has gone
    except ServiceError as error:
        send(output, {"error": error.slug, "detail": error.detail})
    os._exit(0)  # aiortc's thread may wait for a frame


async def _serve(output: IO[bytes], max_pixels: int) -> None:
    commands = asyncio.StreamReader(limit=_MAX_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin.buffer)
    first = await _command(commands)
    peer = _Peer(MessageOutput(output), first, max_pixels)
    await peer.answer(first["offer"])
    giving = asyncio.create_task(peer.give_frames())
    while await _obey(peer, commands, await _command(commands)):
        pass
    giving.cancel()


async def _command(commands: asyncio.StreamReader) -> dict[str, Any]:
    line = await commands.readline()
    if not line:
        raise BrokenPipeError
    command: dict[str, Any] = json.loads(line)
    return command


async def _obey(peer: "_Peer", commands: asyncio.StreamReader, command: Mapping[str, Any]) -> bool:
    """Do what a command says; return False after the last."""
    if "want" in command:
        peer.wanted.set()
    elif "text" in command:
        await peer.send(command["text"])
    elif "draw" in command:
        height, width = int(command["height"]), int(command["width"])
        pixels = np.frombuffer(await commands.readexactly(3 * height * width), np.uint8)
        peer.drawn.show(pixels.reshape(height, width, 3))
    elif "candidates" in command:
        for candidate in command["candidates"]:
            await peer.add(candidate)
    elif "close" in command:
        await peer.close(command["close"])
        return False
    return True


class _Peer:
    """The connection to one peer.

    Args:
        output: to the service.
        first: the first command.
        max_pixels: limit of pixels of one frame.
    """

    def __init__(self, output: MessageOutput, first: Mapping[str, Any], max_pixels: int) -> None:
        servers = [RTCIceServer(**server) for server in first["servers"]]  # without a list, aiortc would ask one of Google's
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._sections = [Section(**section) for section in first["sections"]]
        self._publishes: bool = first["publishes"]
        self._needs_channel = any(section.kind == "application" for section in self._sections)
        self._output = output
        self._max_pixels = max_pixels
        self._channel: RTCDataChannel | None = None
        self._writable = asyncio.Event()
        self._newest: tuple[int, float, VideoFrame] | None = None
        self._arrived = asyncio.Event()
        self._left = False
        self._reading: asyncio.Task[None] | None = None
        self.wanted = asyncio.Event()
        self.drawn = _DrawnTrack()

    async def answer(self, offer: str) -> None:
        """Answer the offer; raises BadOffer if it cannot be."""
        connection = self._connection
        connection.on("datachannel", self._take_channel)
        connection.on("connectionstatechange", self._note_state)
        connection.on("track", self._take_track)
        try:
            await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            self._choose_directions()
            await connection.setLocalDescription(await connection.createAnswer())
        except Exception as error:  # aiortc raises errors of every kind for what it cannot parse
            raise BadOffer(f"the offer cannot be answered: {type(error).__name__}") from None
        self._output.send({"answer": connection.localDescription.sdp})

    def _choose_directions(self) -> None:
        media = [section for section in self._sections if section.kind != "application"]
        for transceiver, section in zip(self._connection.getTransceivers(), media, strict=True):
            receives, sends = self._publishes and section.sends_video, section.takes_video
            names = {(True, True): "sendrecv", (True, False): "recvonly", (False, True): "sendonly", (False, False): "inactive"}
            transceiver.direction = names[receives, sends]
            if sends:
                transceiver.sender.replaceTrack(self.drawn)

    def _take_channel(self, channel: RTCDataChannel) -> None:
        if channel.label != LABEL or self._channel is not None:
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = _MAX_BUFFERED // 2
        channel.on("bufferedamountlow", self._writable.set)
        channel.on("close", self._leave)
        self._output.send({"open": True})

    def _take_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "video" and self._publishes and self._reading is None:
            self._reading = asyncio.ensure_future(self._read(track))

    def _note_state(self) -> None:
        state = self._connection.connectionState
        if state == "connected" and not self._needs_channel:
            self._output.send({"open": True})
        elif state in ("failed", "closed"):
            self._leave()

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._output.send({"left": True})
        self._writable.set()

    async def _read(self, track: MediaStreamTrack) -> None:
        """Keep the newest frame: an unread one grows old, and fills memory."""
        number = 0
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, VideoFrame):
                self._newest = number, time.monotonic(), frame
                number += 1
                self._arrived.set()

    async def give_frames(self) -> None:
        """Send the newest frame each time that one is wanted, while the client reads its results."""
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            await self._until_writable()
            while self._newest is None:
                self._arrived.clear()
                await self._arrived.wait()
            (number, at, frame), self._newest = self._newest, None
            if frame.width * frame.height > self._max_pixels:
                detail = f"a frame of {frame.width} x {frame.height} pixels is over the limit of {self._max_pixels} pixels"
                self._output.send({"error": TooLarge.slug, "detail": detail})
                return
            await asyncio.to_thread(self._give, number, at, frame)

    def _give(self, number: int, at: float, frame: VideoFrame) -> None:
        pixels = frame.to_ndarray(format="rgb24")
        pts_s = 0.0 if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
        size = {"width": pixels.shape[1], "height": pixels.shape[0]}
        self._output.send({"frame": number, "t_seconds": round(pts_s, 6), "at": at, **size}, np.ascontiguousarray(pixels).data)

    async def send(self, text: str) -> None:
        """Send a message on the data channel, if there is one, when the messages before have gone."""
        await self._until_writable()
        if self._channel is not None and self._channel.readyState == "open":
            self._channel.send(text)

    async def _until_writable(self) -> None:
        while self._channel is not None and not self._left and self._channel.bufferedAmount > _MAX_BUFFERED:
            self._writable.clear()
            await self._writable.wait()

    async def add(self, candidate: Mapping[str, Any]) -> None:
        """Add a candidate of the peer."""
        await self._connection.addIceCandidate(
            RTCIceCandidate(
                component=candidate["component"],
                foundation=candidate["foundation"],
                ip=candidate["address"],
                port=candidate["port"],
                priority=candidate["priority"],
                protocol="udp",
                type=candidate["kind"],
                sdpMid=candidate["mid"],
            )
        )

    async def close(self, text: str | None) -> None:
        """Send a last message, and end the connection."""
        if text is not None and self._channel is not None and self._channel.readyState == "open":
            self._channel.send(text)
            await asyncio.sleep(_LAST_WORDS_S)
        async with asyncio.timeout(_CLOSE_S):
            await self._connection.close()


class _DrawnTrack(MediaStreamTrack):
    """The video that the client receives: the newest drawn frame as soon as there is one."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._pixels: UInt8Array | None = None
        self._shown = asyncio.Event()
        self._started = time.monotonic()

    def show(self, pixels: UInt8Array) -> None:
        """Take a frame, (H, W, 3) uint8 RGB; one that was not sent yet is dropped."""
        self._pixels = pixels
        self._shown.set()

    async def recv(self) -> VideoFrame:
        """Return the next frame, as aiortc asks for it."""
        while self._pixels is None:
            self._shown.clear()
            await self._shown.wait()
        pixels, self._pixels = self._pixels, None
        height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2  # colours are of 2 x 2 pixels
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
        frame.pts, frame.time_base = round((time.monotonic() - self._started) * _CLOCK), Fraction(1, _CLOCK)
        return frame
