import json

import pytest

from posewire.errors import BadParameter, ConfigError
from posewire.events.watcher import EventWatcher
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.schemas.events import parse_rules
from tests.events.made import NAMES

ZONE = {"kind": "zone", "name": "door", "polygon": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("[", "json"),
        ("{}", "valid array"),
        ([{"name": "x"}], "kind"),
        ([{"kind": "teleport", "name": "x"}], "teleport"),
        ([{"kind": "zone", "name": "x", "polygon": [[0, 0], [1, 1]]}], "at least 3"),
        ([{"kind": "zone", "name": "x", "polygon": [[0, 0], [1, 1], [0.5, 0.5]]}], "no area"),
        ([{"kind": "zone", "name": "x", "polygon": [[0, 0], [2, 0], [0, 1]]}], "less than or equal to 1"),
        ([{"kind": "line", "name": "x", "start": [0.5, 0.5], "end": [0.5, 0.5]}], "no length"),
        ([{"kind": "line", "name": "x", "start": [0.5, 0.5], "end": [0.5, "NaN"]}], "end"),
        ([{"kind": "fall", "name": "x", "upright_deg": 70}], "less than lying_deg"),
        ([{"kind": "repetition", "name": "x", "joint": ["a", "b", "c"], "bent_deg": 170}], "less than straight_deg"),
        ([{"kind": "repetition", "name": "x", "joint": ["a", "b"]}], "joint"),
        ([{"kind": "raised_hand", "name": ""}], "name"),
        ([{"kind": "raised_hand", "name": "x", "holds": 1}], "holds"),
        ([ZONE, ZONE], "two rules have the name 'door'"),
    ],
)
def test_a_bad_rule_is_named(rules: object, message: str) -> None:
    text = rules if isinstance(rules, str) else json.dumps(rules)
    with pytest.raises(BadParameter, match=message):
        parse_rules(text)


def test_a_rule_says_which_keypoint_the_model_does_not_have() -> None:
    rules = parse_rules('[{"kind": "repetition", "name": "wings", "joint": ["left_hip", "left_wing", "left_ankle"]}]')
    with pytest.raises(ConfigError, match="'wings' needs the keypoint 'left_wing'"):
        EventWatcher(rules, NAMES)


def test_zones_and_falls_go_with_other_keypoint_sets() -> None:
    rules = parse_rules(json.dumps([ZONE, {"kind": "fall", "name": "fall"}]))
    assert EventWatcher(rules, KEYPOINT_SETS["mpii-16"].names).end() == []
    with pytest.raises(ConfigError, match="'nose'"):
        EventWatcher(parse_rules('[{"kind": "raised_hand", "name": "hand"}]'), KEYPOINT_SETS["mpii-16"].names)
