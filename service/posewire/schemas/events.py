"""The JSON of rules, and of the events that they give.

Places are fractions of the frame: x from 0 (left) to 1 (right), y from 0 (top) to 1 (bottom). So a rule holds for every size of the frame.
Times are seconds on the clock of the frames. Angles are degrees.
"""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from posewire.errors import BadParameter
from posewire.schemas.pose import describe

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Place: TypeAlias = tuple[Fraction, Fraction]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Degrees = Annotated[float, Field(ge=0, le=180, allow_inf_nan=False)]

# The place of a person: the middle of the box, or of its lower edge.
PersonPoint: TypeAlias = Literal["feet", "centre"]

# Below this area or length a zone or a line has no inside or side.
_MIN_AREA = 1e-4
_MIN_LENGTH = 1e-3


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="The name of the rule, which its events have.")


class ZoneRule(_Rule):
    """Tells who enters a zone, who leaves it and who stays in it."""

    kind: Literal["zone"]
    polygon: Annotated[tuple[Place, ...], Field(min_length=3, max_length=64)] = Field(description="The corners of the zone, in order.")
    point: PersonPoint = Field("feet", description="The point of a person that must be in the zone.")
    hold_s: Seconds = Field(0.3, description="How long a person must be inside or outside before it counts.")
    dwell_s: Seconds | None = Field(None, description="After this time in the zone there is a `dwelled` event; null: never.")

    @model_validator(mode="after")
    def _has_an_area(self) -> Self:
        following = (*self.polygon[1:], self.polygon[0])
        area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(self.polygon, following, strict=True)) / 2
        if abs(area) < _MIN_AREA:
            raise ValueError("the polygon has no area")
        return self


class LineRule(_Rule):
    """Tells who crosses a line, and in which direction."""

    kind: Literal["line"]
    start: Place = Field(description="One end of the line.")
    end: Place = Field(description="The other end. Left and right are those of someone who looks from `start` to `end`.")
    point: PersonPoint = Field("feet", description="The point of a person that must cross the line.")
    margin: Fraction = Field(0.01, description="Distance from the line within which a person is on neither side.")

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if sum((a - b) ** 2 for a, b in zip(self.start, self.end, strict=True)) < _MIN_LENGTH**2:
            raise ValueError("the line has no length")
        return self


class RaisedHandRule(_Rule):
    """Tells who raises a hand above the nose."""

    kind: Literal["raised_hand"]
    hold_s: Seconds = Field(0.5, description="How long the hand must be up or down before it counts.")


class FallRule(_Rule):
    """Tells whose trunk turns from upright to lying within a short time, and stays so. It is no medical or safety device."""

    kind: Literal["fall"]
    upright_deg: Degrees = Field(35.0, description="The trunk is upright up to this angle from the vertical.")
    lying_deg: Degrees = Field(60.0, description="The person lies from this angle on.")
    within_s: Seconds = Field(2.0, description="The longest time from upright to lying.")
    hold_s: Seconds = Field(1.0, description="How long the person must lie, or be upright again, before it counts.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.upright_deg >= self.lying_deg:
            raise ValueError("upright_deg must be less than lying_deg")
        return self


class RepetitionRule(_Rule):
    """Counts how often a joint is bent and straightened again."""

    kind: Literal["repetition"]
    joint: tuple[str, str, str] = Field(description="Three keypoints; the angle is the one at the second.")
    bent_deg: Degrees = Field(100.0, description="The joint is bent up to this angle.")
    straight_deg: Degrees = Field(150.0, description="The joint is straight from this angle on.")
    hold_s: Seconds = Field(0.15, description="How long the joint must be bent or straight before it counts.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.bent_deg >= self.straight_deg:
            raise ValueError("bent_deg must be less than straight_deg")
        return self


Rule: TypeAlias = Annotated[ZoneRule | LineRule | RaisedHandRule | FallRule | RepetitionRule, Field(discriminator="kind")]

_RULES: TypeAdapter[list[Rule]] = TypeAdapter(Annotated[list[Rule], Field(max_length=256, fail_fast=True)])


def parse_rules(text: str | bytes) -> list[Rule]:
    """Parse a JSON list of rules.

    Raises:
        BadParameter: it is not JSON, a rule is not valid, or two rules have the same name.
    """
    try:
        rules = _RULES.validate_json(text)
    except ValidationError as error:
        raise BadParameter(f"rules: {describe(error)}") from None
    names = [rule.name for rule in rules]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadParameter(f"rules: two rules have the name {twice!r}")
    return rules


class _Event(BaseModel):
    type: Literal["event"] = "event"
    rule: str = Field(description="The name of the rule.")
    time_s: float = Field(description="The time of the frame in which the rule was met.")
    track_id: int = Field(description="The person.")


class Entered(_Event):
    """Someone has entered a zone."""

    event: Literal["entered"] = "entered"


class Left(_Event):
    """Someone has left a zone, or was lost from sight in it."""

    event: Literal["left"] = "left"
    seconds: float = Field(description="The time in the zone.")
    lost: bool = Field(description="The tracker lost the person inside the zone.")


class Dwelled(_Event):
    """Someone has been in a zone for the rule's time. Once for each stay."""

    event: Literal["dwelled"] = "dwelled"
    seconds: float = Field(description="The time in the zone so far.")


class Crossed(_Event):
    """Someone has crossed a line."""

    event: Literal["crossed"] = "crossed"
    direction: Literal["left_to_right", "right_to_left"] = Field(description="For someone who looks from the line's start to its end.")


class HandRaised(_Event):
    """Someone has raised a hand."""

    event: Literal["hand_raised"] = "hand_raised"
    side: Literal["left", "right"] = Field(description="The person's own side.")


class HandLowered(_Event):
    """The hand is down again."""

    event: Literal["hand_lowered"] = "hand_lowered"
    side: Literal["left", "right"] = Field(description="The person's own side.")


class FallSuspected(_Event):
    """Someone may have fallen."""

    event: Literal["fall_suspected"] = "fall_suspected"
    tilt_deg: float = Field(description="The trunk's angle from the vertical.")


class GotUp(_Event):
    """Someone after a suspected fall is upright again."""

    event: Literal["got_up"] = "got_up"


class Repetition(_Event):
    """A joint was bent and is straight again."""

    event: Literal["repetition"] = "repetition"
    count: int = Field(description="Repetitions of this person so far, from 1.")


Event: TypeAlias = Annotated[
    Entered | Left | Dwelled | Crossed | HandRaised | HandLowered | FallSuspected | GotUp | Repetition, Field(discriminator="event")
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
