"""The rules of one video over all of its people."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from posewire.errors import ConfigError
from posewire.events import falls, hands
from posewire.events.falls import FallTrack
from posewire.events.hands import RaisedHandTrack
from posewire.events.lines import LineTrack
from posewire.events.person import Person
from posewire.events.repetitions import RepetitionTrack
from posewire.events.zones import ZoneTrack
from posewire.schemas.events import Event, FallRule, LineRule, RaisedHandRule, RepetitionRule, Rule, ZoneRule
from posewire.types import PoseResult

# A person who is not seen for longer is lost: as long as the tracker gives who comes back the same identity.
LOST_S = 2.0
_NAMED = 30  # keypoints in a message


class RuleTrack(Protocol):
    """One rule and one person: what has been seen so far."""

    def step(self, person: Person) -> Iterator[Event]:
        """Yield the events of the person's next frame."""

    def end(self, track_id: int, last_s: float, time_s: float) -> Iterator[Event]:
        """Yield the events of a person who was last seen at `last_s` and is lost at `time_s`."""


class EventWatcher:
    """Gives the events of a video's frames. Only one thread may use it at a time.

    Args:
        rules: of the video.
        names: of the keypoints of the model.

    Raises:
        ConfigError: a rule needs a keypoint that the model does not have.
    """

    def __init__(self, rules: Sequence[Rule], names: tuple[str, ...]) -> None:
        for rule in rules:
            if missing := [name for name in _needed(rule) if name not in names]:
                has = ", ".join(names[:_NAMED]) + (f", … ({len(names)} in all)" if len(names) > _NAMED else "")
                raise ConfigError(f"the rule {rule.name!r} needs the keypoint {missing[0]!r}; the pose model has {has}")
        self._rules = tuple(rules)
        self._names = names
        self._tracks: dict[int, tuple[RuleTrack, ...]] = {}
        self._last_s: dict[int, float] = {}
        self._now_s = float("-inf")
        self._size: tuple[int, int] | None = None  # width and height of the frames, pixels

    def step(self, result: PoseResult, time_s: float) -> list[Event]:
        """Return the events of the next frame, in order.

        Args:
            result: of the frame, with track ids; people without one are left out.
            time_s: of the frame, later than the frame before. One that is not begins a new video, as another size of the frame does:
                everyone is lost, for a tracker gives the same identities again.
        """
        size = (result.width, result.height)
        events = self.end() if time_s <= self._now_s or size != self._size else []
        self._now_s, self._size = time_s, size
        for pose in result.people:
            if pose.track_id is None:
                continue
            person = Person.of(pose, pose.track_id, self._names, time_s, result.width, result.height)
            tracks = self._tracks.setdefault(pose.track_id, tuple(_track(rule) for rule in self._rules))
            self._last_s[pose.track_id] = time_s
            events += [event for track in tracks for event in track.step(person)]
        lost = [track_id for track_id, last_s in self._last_s.items() if time_s - last_s > LOST_S]
        return events + [event for track_id in lost for event in self._lose(track_id)]

    def end(self) -> list[Event]:
        """Return the events of the end of the video: everyone is lost."""
        return [event for track_id in list(self._tracks) for event in self._lose(track_id)]

    def zones(self) -> dict[str, int]:
        """Return how many people are in each zone now, by the rules' names."""
        tracks = [track for tracks in self._tracks.values() for track in tracks if isinstance(track, ZoneTrack)]
        return {
            rule.name: sum(track.inside and track.rule is rule for track in tracks) for rule in self._rules if isinstance(rule, ZoneRule)
        }

    def _lose(self, track_id: int) -> Iterator[Event]:
        last_s = self._last_s.pop(track_id)
        for track in self._tracks.pop(track_id):
            yield from track.end(track_id, last_s, self._now_s)


def _needed(rule: Rule) -> tuple[str, ...]:
    match rule:
        case RaisedHandRule():
            return hands.NEEDED
        case FallRule():
            return falls.NEEDED
        case RepetitionRule():
            return rule.joint
    return ()


def _track(rule: Rule) -> RuleTrack:
    match rule:
        case ZoneRule():
            return ZoneTrack(rule)
        case LineRule():
            return LineTrack(rule)
        case RaisedHandRule():
            return RaisedHandTrack(rule)
        case FallRule():
            return FallTrack(rule)
        case RepetitionRule():
            return RepetitionTrack(rule)
