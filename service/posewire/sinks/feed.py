"""One camera's messages to its sinks: results, events, and who is there."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

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
        """Take a frame; return its events.

        Args:
            result: of the frame, with track ids.
            message: the result as it is sent.
            time_s: of the frame.

        Raises:
            PosewireError: a sink's file cannot be written.
        """
        events = self._watcher.step(result, time_s)
        await self._send("result", message)
        for event in events:
            await self._send("event", event)
        changed = self._people.see(len(result.people), time_s, 0.0 if self._people.state < 0 else _HOLD_S)
        zones = self._watcher.zones()
        if changed or zones != self._zones:
            self._zones = zones
            people = {name: ZoneState(people=count) for name, count in zones.items()}
            await self._send("state", State(time_s=time_s, people=self._people.state, zones=people))
        return events

    async def close(self) -> list[Event]:
        """Send the events of the end, and close the sinks; return these events."""
        events = self._watcher.end()
        try:
            for event in events:
                await self._send("event", event)
        finally:
            for subscription in self._sinks:
                await subscription.sink.close()
        return events

    async def _send(self, kind: MessageKind, body: BaseModel) -> None:
        takers = [subscription.sink for subscription in self._sinks if kind in subscription.kinds]
        if takers:
            message = Message.of(self._camera, kind, body)
            for sink in takers:
                await sink.put(message)
