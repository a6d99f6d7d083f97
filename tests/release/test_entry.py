"""Entries of a manifest come and go in its text; all else stays, to the letter."""

import tomllib
from typing import Any

import pytest

from model_store.release.entry import baseline, with_model
from posewire.errors import ModelError
from posewire.registry.store import ModelStore

TEXT = (ModelStore().root / "manifest.toml").read_text()
DEFAULTS = ModelStore().manifest.defaults
MODELS: list[dict[str, Any]] = tomllib.loads(TEXT)["models"]
DETECTOR = next(model for model in MODELS if model["name"] == DEFAULTS.detector)


@pytest.mark.parametrize("index", range(len(MODELS)))
def test_the_same_entry_changes_nothing(index: int) -> None:
    assert with_model(TEXT, MODELS[index], default=False) == TEXT


def test_a_changed_entry_stays_in_its_place() -> None:
    changed = MODELS[0] | {"title": "Another [[models]] # title"}
    after = with_model(TEXT, changed, default=False)
    assert tomllib.loads(after)["models"] == [changed, *MODELS[1:]]
    old, new = TEXT.splitlines(), after.splitlines()
    assert [(a, b) for a, b in zip(old, new, strict=True) if a != b] == [
        (f'title = "{MODELS[0]["title"]}"', 'title = "Another [[models]] # title"')
    ]


def test_a_new_entry_comes_after_the_models_and_before_the_comment_of_the_downloads() -> None:
    after = with_model(TEXT, DETECTOR | {"name": "new"}, default=True)
    begin = after.index('name = "new"')
    assert after.index(f'name = "{MODELS[-1]["name"]}"') < begin < after.index("# Published models that do not ship")
    assert tomllib.loads(after)["defaults"] == {"detector": "new", "pose": DEFAULTS.pose}
    without = after[: after.rindex("[[models]]", 0, begin)] + after[after.index("# Published models") :]
    assert without.replace('detector = "new"', f'detector = "{DEFAULTS.detector}"') == TEXT


def test_a_manifest_that_is_not_there_is_begun() -> None:
    after = with_model(None, MODELS[0], default=False)
    assert after.startswith("# ")
    assert tomllib.loads(after) == {"models": [MODELS[0]]}
    assert tomllib.loads(with_model(after, MODELS[1], default=False)) == {"models": MODELS[:2]}


def test_what_cannot_be_edited_is_refused() -> None:
    inline = f'models = [{{ name = "{MODELS[0]["name"]}", task = "pose" }}]\n'
    with pytest.raises(ModelError, match="by hand"):
        with_model(inline, MODELS[0], default=False)
    with pytest.raises(ModelError, match=r"no \[defaults\]"):
        with_model(None, MODELS[0], default=True)


def test_what_a_new_model_has_to_beat() -> None:
    own = '[[models]]\nname = "mine"\ntask = "pose"\n'
    assert baseline(TEXT, "pose", "new") == DEFAULTS.pose
    assert baseline(TEXT, "detector", "new") == DEFAULTS.detector
    assert (baseline(None, "pose", "mine"), baseline(own, "pose", "mine"), baseline(own, "pose", "other")) == (None, "mine", None)
    with pytest.raises(ModelError, match="another name"):
        baseline(own, "detector", "mine")
