"""People who cross a line."""

from collections.abc import Iterator

from posewire.events.geometry import Point, crosses, side
from posewire.events.person import Person
from posewire.schemas.events import Crossed, Event, LineRule


class LineTrack:
    """One person and one line. Within the margin a person is on neither side, so that one who stands on the line does not cross it."""

    def __init__(self, rule: LineRule) -> None:
        self._rule = rule
        self._last: Point | None = None  # outside of the margin

    def step(self, person: Person) -> Iterator[Event]:
        """Yield the events of the person's next frame."""
        rule, point = self._rule, person.points[self._rule.point]
        distance = side(rule.start, rule.end, point)
        if abs(distance) <= rule.margin:
            return
        last, self._last = self._last, point
        if last is None or (side(rule.start, rule.end, last) > 0) == (distance > 0) or not crosses(rule.start, rule.end, last, point):
            return
        yield Crossed(
            rule=rule.name,
            time_s=person.time_s,
            track_id=person.track_id,
            direction="left_to_right" if distance > 0 else "right_to_left",
        )

    def end(self, track_id: int, last_s: float, time_s: float) -> Iterator[Event]:  # noqa: ARG002 - a line knows no end
        """Yield nothing."""
        yield from ()
