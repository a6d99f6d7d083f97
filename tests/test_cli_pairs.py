"""Pairs of models by one word, as a person chooses them."""

import json
from pathlib import Path

import pytest

from posewire.config import load_settings
from posewire.engine.engine import load_engine
from posewire.registry.choice import choose, save_choice
from posewire.registry.store import ModelStore, open_store
from posewire.telemetry.metrics import Metrics
from tests.evaluate.made import annotation, make_set
from tests.registry.downloads import DETECTOR, DETECTOR_NAME, FILE, POSE_NAME, make_store, other_pose, pair, whole
from tests.sample_images import ASTRONAUT
from tests.test_cli import posewire

UNKNOWN = "'nobody' is not a pair of the manifest; known: plain, other, far"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Of a store with two pairs, and with a third whose detector must be pulled."""
    box = DETECTOR.format(address="https://nowhere.invalid/box.onnx", proof=whole(FILE))
    pairs = pair("plain"), pair("other", "other-pose"), pair("far", detector="box")
    return {"model_store": str(make_store(tmp_path / "store", other_pose(), *pairs, box)), "cache_dir": str(tmp_path / "cache")}


def serving(**settings: str) -> str:
    """The last line of `posewire models use`, which says what serves."""
    run = posewire("models", "use", **settings)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.splitlines()[-1]


def refused(*arguments: str | Path, **settings: str) -> str:
    run = posewire(*arguments, **settings)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (1, "", 1), run
    return run.stderr


def test_a_choice_is_kept_until_it_is_forgotten(tmp_path: Path, settings: dict[str, str]) -> None:
    defaults = f"no pair is in use: {DETECTOR_NAME} and {POSE_NAME} serve"
    assert serving(**settings) == defaults
    used = posewire("models", "use", "other", **settings)
    kept = tmp_path / "cache" / "models" / "use.toml"
    assert used.stdout == f"other: {DETECTOR_NAME} and other-pose; kept in {kept}\n"
    assert [path.name for path in kept.parent.iterdir()] == ["use.toml"]
    assert serving(**settings) == f"* in use: {DETECTOR_NAME} and other-pose serve"
    doctor = json.loads(posewire("doctor", "--json", **settings).stdout)
    assert doctor["pair"] == "other"
    assert doctor["pose"].startswith("other-pose ")
    assert posewire("models", "use", "default", **settings).stdout == "forgotten: the manifest's defaults serve\n"
    assert serving(**settings) == defaults
    assert posewire("models", "use", "default", **settings).returncode == 0


def test_names_win_over_a_word_and_a_word_over_what_is_kept(settings: dict[str, str]) -> None:
    posewire("models", "use", "other", **settings)
    assert serving(models="plain", **settings) == f"* in use: {DETECTOR_NAME} and {POSE_NAME} serve"
    assert serving(models="plain", pose="other-pose", **settings) == f"no pair is in use: {DETECTOR_NAME} and other-pose serve"
    assert serving(pose=POSE_NAME, **settings) == f"no pair is in use: {DETECTOR_NAME} and {POSE_NAME} serve"
    assert serving(models="far", detector=DETECTOR_NAME, **settings) == f"no pair is in use: {DETECTOR_NAME} and {POSE_NAME} serve"
    used = posewire("models", "use", "plain", models="other", pose="other-pose", **settings)
    assert used.stdout.splitlines()[-1] == "POSEWIRE_MODELS=other and POSEWIRE_POSE=other-pose of the environment wins over it"
    doctor = json.loads(posewire("doctor", "--models", "other", "--json", models="plain", **settings).stdout)
    assert doctor["pose"].startswith("other-pose ")


def test_a_pair_that_must_be_pulled_first_says_how(tmp_path: Path, settings: dict[str, str]) -> None:
    remedy = "'box' is not here yet; fetch it with `posewire models pull box`"
    assert remedy in refused("models", "use", "far", **settings)
    assert not (tmp_path / "cache").exists()
    assert remedy in refused("predict", ASTRONAUT, "--models", "far", **settings)
    (tmp_path / "box.onnx").write_bytes(FILE)
    posewire("models", "pull", "box", model_mirror=str(tmp_path), **settings)
    assert posewire("models", "use", "far", **settings).stdout.startswith(f"far: box and {POSE_NAME}; kept in ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('pair = "gone"', ["'gone' is not a pair of the manifest"]),
        ("pair = 3", ["not a choice of models"]),
        ("=", ["not a choice of models"]),
    ],
)
def test_a_choice_that_is_gone_or_damaged_says_what_to_do(tmp_path: Path, settings: dict[str, str], content: str, words: list[str]) -> None:
    kept = tmp_path / "cache" / "models" / "use.toml"
    kept.parent.mkdir(parents=True)
    kept.write_text(content)
    for said in (refused("predict", ASTRONAUT, **settings), posewire("models", "use", **settings).stdout.splitlines()[-1]):
        remedies = ["`posewire models use NAME`", "`posewire models use default`"]
        assert all(word in said for word in [str(kept), *words, *remedies]), said
    assert posewire("models", "use", **settings).returncode == 1
    assert posewire("models", "list", **settings).returncode == 0
    assert serving(models="plain", **settings).startswith("* in use")
    assert serving(detector=DETECTOR_NAME, pose=POSE_NAME, **settings).startswith("no pair is in use")
    assert posewire("models", "use", "other", **settings).returncode == 0
    assert serving(**settings).startswith("* in use")


def test_every_command_that_chooses_models_takes_the_word(tmp_path: Path, settings: dict[str, str]) -> None:
    people = make_set(tmp_path / "set", [annotation(1, 1)])
    data = ["--images", tmp_path / "set" / "images", "--annotations", people]
    for command in (["serve"], ["predict", ASTRONAUT], ["watch", ASTRONAUT], ["evaluate", *data], ["bench"], ["models", "use", "nobody"]):
        word = [] if command[0] == "models" else ["--models", "nobody"]
        assert UNKNOWN in refused(*command, *word, **settings)
    assert UNKNOWN in posewire("doctor", "--models", "nobody", **settings).stdout
    assert UNKNOWN in refused("predict", ASTRONAUT, models="nobody", **settings)


def test_pairs_are_listed_and_shown(settings: dict[str, str]) -> None:
    listed = {model["name"]: model["pairs"] for model in json.loads(posewire("models", "list", "--json", **settings).stdout)}
    paired = {POSE_NAME: ["plain", "far"], DETECTOR_NAME: ["plain", "other"], "other-pose": ["other"], "box": ["far"]}
    assert listed == {spec.name: [] for spec in ModelStore().manifest.models} | paired
    table = posewire("models", "list", models="plain", **settings).stdout
    assert all(word in table for word in ("plain *", "other", "far", "box (can be pulled)", "for other tests", "* in use"))
    assert "plain, far" in posewire("models", "show", POSE_NAME, **settings).stdout


def test_a_manifest_without_pairs_has_nothing_to_choose(tmp_path: Path) -> None:
    settings = {"model_store": str(make_store(tmp_path / "store")), "cache_dir": str(tmp_path)}
    assert "known: none" in refused("models", "use", "fast", **settings)
    assert serving(**settings).startswith("no pair is in use")


def test_an_engine_stays_with_its_models_when_the_choice_changes(settings: dict[str, str]) -> None:
    """Else a process that replaces one that died would serve other models than those beside it."""
    chosen = load_settings({}, device="cpu", **settings)
    save_choice(chosen, "other")
    engine = load_engine(chosen, Metrics())
    save_choice(chosen, "plain")
    assert engine.pair == "other"
    manifest = open_store(chosen).manifest
    assert choose(engine.settings, manifest).pose == engine.pose.spec == manifest.get("other-pose")


def test_what_ships_has_the_three_pairs_of_the_readme() -> None:
    assert {"fast", "accurate", "paper"} <= set(open_store(load_settings({})).manifest.pairs)
