"""Raised hands."""

from collections.abc import Iterator
from typing import Final, Literal

from posewire.events.held import Held
from posewire.events.person import Person
from posewire.schemas.events import Event, HandLowered, HandRaised, RaisedHandRule

NEEDED: Final = ("nose", "left_wrist", "right_wrist")
_SIDES: Final[tuple[Literal["left", "right"], ...]] = ("left", "right")


class RaisedHandTrack:
    """One person's hands. A hand is up while its wrist is above the nose."""

    def __init__(self, rule: RaisedHandRule) -> None:
        self._rule = rule
        self._up = {side: Held(state=False, since_s=0.0) for side in _SIDES}

    def step(self, person: Person) -> Iterator[Event]:
        """Yield the events of the person's next frame."""
        nose = person.joints.get("nose")
        for side in _SIDES:
            wrist = person.joints.get(f"{side}_wrist")
            seen = None if nose is None or wrist is None else wrist[1] < nose[1]
            if self._up[side].see(seen, person.time_s, self._rule.hold_s):
                kind = HandRaised if self._up[side].state else HandLowered
                yield kind(rule=self._rule.name, time_s=person.time_s, track_id=person.track_id, side=side)

    def end(self, track_id: int, last_s: float, time_s: float) -> Iterator[Event]:  # noqa: ARG002 - who is gone lowers no hand
        """Yield nothing."""
        yield from ()
