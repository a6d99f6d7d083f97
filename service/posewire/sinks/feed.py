"""One camera's messages to its sinks: results, events, and who is there."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from posewire.errors import PosewireError
from posewire.events.held import Held
from posewire.events.watcher import EventWatcher
from posewire.schemas.events import Event
from posewire.schemas.sinks import MessageKind, State, ZoneState
from posewire.sinks.base import Message, Sink
from posewire.types import PoseResult

# A number of people that holds for less is the tracker's, not the camera's.
_HOLD_S = 0.5


@dataclass(frozen=True, slots=True)
class Subscription:
    """A sink, and the kinds of messages that it gets."""

    sink: Sink
    kinds: frozenset[MessageKind]


class Feed:
    """Gives each frame's messages to the sinks. `close` it in any case.

    Args:
        camera: its name.
        watcher: of its rules.
        sinks: that take the messages.
    """

    def __init__(self, camera: str, watcher: EventWatcher, sinks: Sequence[Subscription]) -> None:
        self._camera = camera
        self._watcher = watcher
        self._sinks = tuple(sinks)
        self._people = Held(state=-1, since_s=0.0)
        self._zones: dict[str, int] = {}

    async def step(self, result: PoseResult, message: BaseModel, time_s: float) -> list[Event]:
        """Take a frame; return its events. A cancellation waits until all sinks have the frame's messages.

        Args:
            result: of the frame, with track ids.
            message: the result as it is sent.
            time_s: of the frame.

        Raises:
            PosewireError: a sink's file cannot be written. The other sinks have the messages.
        """
        events = self._watcher.step(result, time_s)
        messages: list[tuple[MessageKind, BaseModel]] = [("result", message), *(("event", event) for event in events)]
        changed = self._people.see(len(result.people), time_s, 0.0 if self._people.state < 0 else _HOLD_S)
        zones = self._watcher.zones()
        if changed or zones != self._zones:
            self._zones = zones
            people = {name: ZoneState(people=count) for name, count in zones.items()}
            messages.append(("state", State(time_s=time_s, people=self._people.state, zones=people)))
        sending = asyncio.create_task(self._send(messages))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait([sending])
            sending.exception()  # nobody else asks for it
            raise
        return events

    async def close(self) -> list[Event]:
        """Send the events of the end, and close the sinks; return these events.

        Raises:
            PosewireError: a sink's file cannot be written. The other sinks have the messages, and all are closed.
        """
        events = self._watcher.end()
        try:
            await self._send([("event", event) for event in events])
        finally:
            await asyncio.gather(*(subscription.sink.close() for subscription in self._sinks))  # at once: each may take seconds
        return events

    async def _send(self, messages: Sequence[tuple[MessageKind, BaseModel]]) -> None:
        """Give messages to their sinks, in order. A sink that fails takes nothing from the others.

        Raises:
            PosewireError: of the first sink that failed.
        """
        problem: PosewireError | None = None
        for kind, body in messages:
            takers = [subscription.sink for subscription in self._sinks if kind in subscription.kinds]
            if not takers:
                continue
            message = Message.of(self._camera, kind, body)
            for sink in takers:
                try:
                    await sink.put(message)
                except PosewireError as error:
                    problem = problem or error
        if problem is not None:
            raise problem
