"""Falls: the trunk turns from upright to lying within a short time, and stays so."""

from collections.abc import Iterator
from typing import Final, Literal

from posewire.events.geometry import middle, tilt_deg
from posewire.events.held import Held
from posewire.events.person import Person
from posewire.schemas.events import Event, FallRule, FallSuspected, GotUp

NEEDED: Final = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")


def trunk_tilt_deg(person: Person) -> float | None:
    """Return the angle from the vertical of the line from the hips to the shoulders, in degrees; None: they are not all seen."""
    if not all(name in person.joints for name in NEEDED):
        return None
    left_shoulder, right_shoulder, left_hip, right_hip = (person.joints[name] for name in NEEDED)
    return tilt_deg(middle(left_hip, right_hip), middle(left_shoulder, right_shoulder))


class FallTrack:
    """One person's trunk."""

    def __init__(self, rule: FallRule) -> None:
        self._rule = rule
        self._posture: Held[Literal["unknown", "upright", "lying"]] = Held("unknown", 0.0)
        self._last_upright_s: float | None = None
        self._fallen = False

    def step(self, person: Person) -> Iterator[Event]:
        """Yield the events of the person's next frame."""
        rule, tilt = self._rule, trunk_tilt_deg(person)
        if tilt is None:
            return
        seen: Literal["upright", "lying"] | None = "upright" if tilt <= rule.upright_deg else "lying" if tilt >= rule.lying_deg else None
        changed = self._posture.see(seen, person.time_s, rule.hold_s)
        if changed and self._posture.state == "lying":
            fast = self._last_upright_s is not None and self._posture.since_s - self._last_upright_s <= rule.within_s
            if fast and not self._fallen:
                self._fallen = True
                yield FallSuspected(rule=rule.name, time_s=person.time_s, track_id=person.track_id, tilt_deg=round(tilt, 1))
        if changed and self._posture.state == "upright" and self._fallen:
            self._fallen = False
            yield GotUp(rule=rule.name, time_s=person.time_s, track_id=person.track_id)
        if seen == "upright":
            self._last_upright_s = person.time_s

    def end(self, track_id: int, last_s: float, time_s: float) -> Iterator[Event]:  # noqa: ARG002 - nothing is known of who is gone
        """Yield nothing."""
        yield from ()
