"""People who enter a zone, leave it, and stay in it."""

from collections.abc import Iterator

from posewire.events.geometry import inside
from posewire.events.held import Held
from posewire.events.person import Person
from posewire.schemas.events import Dwelled, Entered, Event, Left, ZoneRule


class ZoneTrack:
    """One person and one zone. Who appears inside has entered."""

    def __init__(self, rule: ZoneRule) -> None:
        self.rule = rule
        self._inside = Held(state=False, since_s=0.0)
        self._dwelled = False

    @property
    def inside(self) -> bool:
        """True if the person is in the zone."""
        return self._inside.state

    def step(self, person: Person) -> Iterator[Event]:
        """Yield the events of the person's next frame."""
        rule, now = self.rule, person.time_s
        entered_s = self._inside.since_s
        base = {"rule": rule.name, "time_s": now, "track_id": person.track_id}
        if self._inside.see(inside(rule.polygon, person.points[rule.point]), now, rule.hold_s):
            if self._inside.state:
                self._dwelled = False
                yield Entered.model_validate(base)
            else:
                yield Left.model_validate(base | {"seconds": self._inside.since_s - entered_s, "lost": False})
        if self._inside.state and not self._dwelled and rule.dwell_s is not None and now - self._inside.since_s >= rule.dwell_s:
            self._dwelled = True
            yield Dwelled.model_validate(base | {"seconds": now - self._inside.since_s})

    def end(self, track_id: int, last_s: float, time_s: float) -> Iterator[Event]:
        """Yield the events of a person who was last seen at `last_s`."""
        if self._inside.state:
            yield Left(rule=self.rule.name, time_s=time_s, track_id=track_id, seconds=last_s - self._inside.since_s, lost=True)
