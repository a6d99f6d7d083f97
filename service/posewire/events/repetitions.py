"""How often a joint is bent and straightened: squats, push-ups, curls."""

import math
from collections.abc import Iterator
from typing import Final, Literal

from posewire.events.geometry import angle_deg
from posewire.events.held import Held
from posewire.events.person import Person
from posewire.schemas.events import Event, Repetition, RepetitionRule

# A keypoint of a small person is off by some pixels. Between shorter limbs an angle shows that, and not the joint.
_MIN_LIMB: Final = 8.0  # pixels


class RepetitionTrack:
    """One person's joint. A repetition begins straight, so someone who comes with a bent arm and lowers it has done none."""

    def __init__(self, rule: RepetitionRule) -> None:
        self._rule = rule
        self._joint: Held[Literal["unknown", "bent", "straight"]] = Held("unknown", 0.0)
        self._began_straight = False
        self._count = 0

    def step(self, person: Person) -> Iterator[Event]:
        """Yield the events of the person's next frame."""
        rule = self._rule
        if not all(name in person.joints for name in rule.joint):
            return
        a, b, c = (person.joints[name] for name in rule.joint)
        if min(math.dist(a, b), math.dist(b, c)) < _MIN_LIMB:
            return
        angle = angle_deg(a, b, c)
        seen: Literal["bent", "straight"] | None = "bent" if angle <= rule.bent_deg else "straight" if angle >= rule.straight_deg else None
        if self._joint.see(seen, person.time_s, rule.hold_s) and self._joint.state == "straight":
            if self._began_straight:
                self._count += 1
                yield Repetition(rule=rule.name, time_s=person.time_s, track_id=person.track_id, count=self._count)
            self._began_straight = True

    def end(self, track_id: int, last_s: float, time_s: float) -> Iterator[Event]:  # noqa: ARG002 - half a repetition is none
        """Yield nothing."""
        yield from ()
