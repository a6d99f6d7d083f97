"""The WebRTC sessions: each a peer in a process of its own, and a task that serves it."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from posewire.cameras.broadcast import Reader
from posewire.cameras.watcher import CameraWatcher
from posewire.engine.engine import Engine
from posewire.errors import ClientGone, NoSuchCamera, NoSuchSession, Overloaded, ServiceError
from posewire.schemas.stream import StreamOptions, StreamProblem
from posewire.schemas.webrtc import EndedMessage
from posewire.server.first_end import first_end
from posewire.server.latest_frame import ReceivedFrame
from posewire.server.problems import internal_error, problem_fields
from posewire.server.stream_worker import StreamWorker, started_message
from posewire.telemetry.metrics import Metrics
from posewire.types import Frame, PoseResult
from posewire.webrtc.offers import Offer
from posewire.webrtc.peer_process import PeerProcess

# Frames have times that grow, whatever the process of a peer says.
_TICK_S = 1e-6

log = logging.getLogger(__name__)


class PeerSession:
    """One WebRTC session.

    Args:
        offer: of the peer.
        metrics: count the reason of an early end.
    """

    def __init__(self, offer: Offer, metrics: Metrics) -> None:
        self.offer = offer
        self.peer: PeerProcess | None = None  # None until its process is started
        self.id = secrets.token_urlsafe(24)
        self.etag = f'"{secrets.token_hex(8)}"'  # of the ICE session, which is never restarted
        self.task: asyncio.Task[None] | None = None
        self._metrics = metrics

    def end(self, reason: ServiceError) -> None:
        """End it after the frame that is being answered."""
        if self.peer is not None:
            self.peer.end(reason)

    async def run(self, peer: PeerProcess, serve: Callable[[PeerProcess], Awaitable[None]]) -> None:
        """Serve the peer until it leaves or an error ends the session; then close it."""
        last: ServiceError | None = None
        try:
            await serve(peer)
        except ClientGone as gone:
            log.info("WebRTC session ended", extra={"detail": gone.detail})
        except ServiceError as error:
            last = error
            self._metrics.count_rejection(error)
            log.info("WebRTC session ended", extra={"status": error.status, **problem_fields(error)})
        except Exception:
            last = internal_error()
            self._metrics.count_rejection(last)
            log.exception("unhandled error")
        finally:
            text = None if last is None else EndedMessage(problem=StreamProblem.from_error(last)).model_dump_json()
            await peer.close(text)


class Peers:
    """The open WebRTC sessions, by their ids.

    Args:
        limit: sessions at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._opening = 0
        self._sessions: dict[str, PeerSession] = {}

    def check_room(self) -> None:
        """Raise Overloaded if no more session is taken."""
        if not self._limit:
            raise Overloaded("WebRTC is off here: POSEWIRE_MAX_WEBRTC_SESSIONS is 0", limit="webrtc-sessions")
        if len(self._sessions) + self._opening >= self._limit:
            raise Overloaded(
                f"{self._limit} WebRTC sessions are open, more are not taken; try again later", limit="webrtc-sessions", retry_after_s=1
            )

    async def open(
        self,
        start: Callable[[], Awaitable[PeerProcess]],
        enter: Callable[[PeerSession, AsyncExitStack], None],
        serve: Callable[[PeerProcess], Awaitable[None]],
        offer: Offer,
        metrics: Metrics,
    ) -> tuple[PeerSession, str]:
        """Open a session, and serve it in a task of its own.

        Args:
            start: starts the process of the peer.
            enter: takes the slot of a stream for the session, and puts it on the stack.
            serve: serves the peer until it leaves.
            offer: of the peer.
            metrics: count the reason of an early end.

        Returns:
            The session, and the answer to the offer.

        Raises:
            Overloaded: as `check_room`.
            ServiceError: as `start`, `enter` and `PeerProcess.answer`.
        """
        self.check_room()
        self._opening += 1
        try:
            async with AsyncExitStack() as stack:
                session = PeerSession(offer, metrics)
                enter(session, stack)
                session.peer = peer = await start()
                stack.push_async_callback(peer.close)
                answer = await peer.answer()
                held = stack.pop_all()
        finally:
            self._opening -= 1
        self._sessions[session.id] = session
        session.task = asyncio.create_task(self._run(session, peer, serve, held), name="webrtc-session")
        return session, answer

    async def _run(
        self, session: PeerSession, peer: PeerProcess, serve: Callable[[PeerProcess], Awaitable[None]], held: AsyncExitStack
    ) -> None:
        try:
            async with held:
                await session.run(peer, serve)
        finally:
            del self._sessions[session.id]

    def get(self, session_id: str) -> PeerSession:
        """Return an open session, or raise NoSuchSession."""
        session = self._sessions.get(session_id)
        if session is None:
            raise NoSuchSession("no session has this address; it has ended, or another instance has it")
        return session

    async def end(self, session_id: str) -> None:
        """End a session for its client, and wait until its process has ended; raises as `get`."""
        session = self.get(session_id)
        session.end(ClientGone("the client has ended the session"))
        if session.task is not None:
            await asyncio.wait([session.task])

    async def close(self) -> None:
        """End all sessions at once."""
        tasks = [session.task for session in self._sessions.values() if session.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def serve_whip(peer: PeerProcess, engine: Engine, options: StreamOptions, offer: Offer, headers: Mapping[str, str]) -> None:
    """Answer the frames of a peer until it leaves (ClientGone) or an error ends the session (ServiceError).

    Args:
        peer: sends a video.
        engine: started.
        options: that the client chose.
        offer: says whether the client takes results and drawn images.
        headers: of the request.
    """
    await peer.opened(engine.settings.stream_idle_s)
    await peer.send(started_message(engine, options).model_dump_json())
    drawing = _Drawing(engine, peer) if any(section.takes_video for section in offer.sections) else None
    worker = StreamWorker(engine, _PeerFrames(peer, engine), options, headers, drawing.show if drawing else None)
    tasks = [asyncio.create_task(worker.run(peer.send), name="webrtc-work")]
    if drawing:
        tasks.append(asyncio.create_task(drawing.run(), name="webrtc-draw"))
    await first_end(tasks)


async def serve_whep(peer: PeerProcess, watcher: CameraWatcher, connect_s: float) -> None:
    """Show a camera to a peer until it leaves (ClientGone), or the camera is changed or removed (NoSuchCamera).

    Args:
        peer: looks at a video.
        watcher: of the camera.
        connect_s: seconds within which the peer must connect.
    """
    await peer.opened(connect_s)
    with watcher.broadcast.reading() as messages, watcher.broadcast.reading() as frames:
        tasks = [_send_lines(peer, messages), _send_images(peer, watcher, frames), peer.gone()]
        await first_end([asyncio.ensure_future(task) for task in tasks])
    raise NoSuchCamera("the camera was changed or removed")


async def _send_lines(peer: PeerProcess, reader: Reader) -> None:
    async for line in reader.lines():
        await peer.send(line.text)


async def _send_images(peer: PeerProcess, watcher: CameraWatcher, reader: Reader) -> None:
    sent = -1
    async for _ in reader.lines():
        drawn = await watcher.drawn()
        if drawn is not None and drawn[0] != sent:
            sent = drawn[0]
            await peer.draw(drawn[1])


class _PeerFrames:
    """The frames of a peer as those of a stream; its process holds the newest."""

    def __init__(self, peer: PeerProcess, engine: Engine) -> None:
        self._peer = peer
        self._idle_s = engine.settings.stream_idle_s
        self._metrics = engine.metrics
        self._taken = self._answered = -1
        self._at = 0.0

    async def take(self) -> ReceivedFrame:
        """As `FrameSource`."""
        newest = await self._peer.newest(self._idle_s)
        number = newest.index - self._taken
        self._metrics.count_received_frame(number)
        self._metrics.count_dropped_frame("newer", number - 1)
        self._taken, self._at = newest.index, max(self._at + _TICK_S, newest.at)
        return ReceivedFrame(newest.index, newest.frame, self._at, newest.pts_s)

    def answered(self, seq: int) -> int:
        """As `FrameSource`."""
        dropped = seq - self._answered - 1
        self._answered = seq
        return dropped


class _Drawing:
    """Draws the newest frame, and sends it; frames that come meanwhile are dropped."""

    def __init__(self, engine: Engine, peer: PeerProcess) -> None:
        self._engine = engine
        self._peer = peer
        self._newest: tuple[Frame, PoseResult] | None = None
        self._arrived = asyncio.Event()

    def show(self, frame: Frame, result: PoseResult) -> None:
        """Take a frame and its people."""
        self._newest = frame, result
        self._arrived.set()

    async def run(self) -> None:
        """Draw until the session ends."""
        while True:
            while self._newest is None:
                self._arrived.clear()
                await self._arrived.wait()
            (frame, result), self._newest = self._newest, None
            await self._peer.draw(await self._engine.offload(self._engine.draw_pixels, frame, result))
