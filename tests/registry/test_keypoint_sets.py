"""The keypoint sets that come with Posewire, and files of sets of one's own."""

from pathlib import Path

import pytest

from posewire.errors import ModelError
from posewire.registry.keypoint_sets import KEYPOINT_SETS, keypoint_set_of, load_keypoint_set

OWN = """
name = "tool"
about = "A tool"
keypoints = ["left_grip", "right_grip", "tip"]
mirror = [["left_grip", "right_grip"]]
skeleton = [["left_grip", "tip"], ["right_grip", "tip"]]
sigmas = [0.05, 0.05, 0.1]
sigmas_source = "measured"
small = ["tip"]
[colours]
"#0a141e" = ["tip"]
"""


@pytest.mark.parametrize(("name", "count"), [(name, int(name.rpartition("-")[2])) for name in KEYPOINT_SETS])
def test_a_set_agrees_with_itself_and_its_name(name: str, count: int) -> None:
    known = KEYPOINT_SETS[name]
    assert (known.name, known.reference) == (name, name)
    assert len(set(known.names)) == len(known.names) == len(known.oks_sigmas) == count
    sides = {index for index, keypoint in enumerate(known.names) if keypoint.startswith(("left_", "right_"))}
    assert sides <= {index for pair in known.flip_pairs for index in pair}
    for left, right in known.flip_pairs:
        assert known.names[left].removeprefix("left_") == known.names[right].removeprefix("right_") or "face-" in known.names[left]
    assert {index for limb in known.skeleton for index in limb} == set(range(count))


def test_the_old_names_of_sets_are_read() -> None:
    assert KEYPOINT_SETS["coco17"] is KEYPOINT_SETS["coco-17"]
    assert KEYPOINT_SETS["mpii16"] is KEYPOINT_SETS["mpii-16"]
    assert "coco17" not in list(KEYPOINT_SETS)


def test_names_tell_the_smallest_set_that_has_them() -> None:
    assert keypoint_set_of(["nose", "left_hip"]).name == "coco-17"
    assert keypoint_set_of(["nose", "left_heel", "neck"]).name == "halpe-26"
    assert keypoint_set_of(KEYPOINT_SETS["coco-wholebody-133"].names).name == "coco-wholebody-133"
    assert keypoint_set_of(["oar", "nose"]).names == ("oar", "nose")


def test_a_file_is_a_set(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    found = load_keypoint_set(tmp_path / "own.toml", "own.toml")
    assert (found.names, found.flip_pairs, found.skeleton) == (("left_grip", "right_grip", "tip"), ((0, 1),), ((0, 2), (1, 2)))
    assert (found.colours, found.small, found.reference) == ((None, None, (10, 20, 30)), (2,), "own.toml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[0.05, 0.05, 0.1]", "[0.05, 0.1]", "sigmas: 2 numbers for 3 keypoints; one each, or one number for all"),
        ("[0.05, 0.05, 0.1]", "0", "sigmas: .*greater than 0"),
        ('["left_grip", "tip"]', '["left_grip", "top"]', "skeleton: 'top' is not one of the keypoints"),
        ('"right_grip", "tip"]\nmirror', '"left_grip", "tip"]\nmirror', "keypoints: 'left_grip' is there twice"),
        ('[["left_grip", "right_grip"]]', '[["left_grip", "right_grip"], ["tip", "left_grip"]]', "mirror: 'left_grip' is there twice"),
        ("about", "abuot", "abuot: unknown key"),
        ("#0a141e", "green", "colours"),
        ("name =", "name", "not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_with_its_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in OWN
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(ModelError, match=says) as refused:
        load_keypoint_set(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
