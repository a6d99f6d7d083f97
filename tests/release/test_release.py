"""What is released serves; what is worse, or fails half-way, leaves the store as it was."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_store.release import places
from model_store.release.steps import release
from posewire.errors import ModelError, PosewireError
from posewire.registry.score_curve import ScoreCurve
from posewire.registry.store import ModelStore
from posewire.registry.weights.safetensors import write_safetensors
from posewire.tools.compiler.litehrnet.checkpoint import read_checkpoint
from tests.compiler.test_rtmdet import random_detector
from tests.release.conftest import MakeRequest, contents
from tests.sample_images import ASTRONAUT
from tests.test_cli import posewire

ROOT = Path(__file__).parents[2]
LEAN = "rtmdet-nano-lean"
POSE = ModelStore().manifest.defaults.pose


def quiet(line: str) -> None:
    """Nobody listens."""


def test_a_first_model_is_taken_and_serves(make_request: MakeRequest, work: Path) -> None:
    request = make_request()
    said: list[str] = []
    release(request, said.append)
    files = contents(request.store)
    assert set(files) == {"manifest.toml", *request.files.values()}
    store = ModelStore(request.store)
    spec = store.manifest.get("tiny", "pose")
    store.verify(spec)
    assert (spec.title, spec.input.height, spec.input.width) == ('Made up, "quoted"', 64, 64)
    assert [a.dataset for a in spec.accuracy] == ["made up: 1 persons on 2 images"] * 4
    assert any("compiled graph and the plain one differ by at most" in line for line in said)
    card = files[request.files["card"]].decode()
    assert card.startswith("# tiny\n")
    assert "It knows $nothing." in card
    assert "Nothing shipped" in card
    assert all(line in card for line in ("made up: 1 persons on 2 images", "none: random weights", "Take it."))
    state = read_checkpoint(request.store / request.files["checkpoint"])
    assert state.keys() == read_checkpoint(work / "random.safetensors").keys()
    done = posewire("predict", ASTRONAUT, "--json", model_store=str(request.store), pose="tiny", max_batch="1")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["people"][0]["keypoints"]) == 17


def test_a_worse_model_is_refused_unless_there_is_a_reason(make_request: MakeRequest, whole_store: Path) -> None:
    before = contents(whole_store)
    with pytest.raises(ModelError, match=rf"is worse than the \d\.\d+ of {POSE} .*nothing was written; --force"):
        release(make_request(store=whole_store), quiet)
    assert contents(whole_store) == before
    release(make_request(store=whole_store, force="only a test", default=True), quiet)
    assert "It is **worse**, and ships all the same: only a test" in (whole_store / "cards/tiny.md").read_text()
    manifest = ModelStore(whole_store).manifest
    assert manifest.default("pose").name == "tiny"
    assert [spec.name for spec in manifest.models] == [*(spec.name for spec in ModelStore().manifest.models), "tiny"]
    after = contents(whole_store)
    assert {name: after[name] for name in before if name != "manifest.toml"} == {n: c for n, c in before.items() if n != "manifest.toml"}


def test_what_ships_can_be_released_again(make_request: MakeRequest, whole_store: Path) -> None:
    checkpoint, variant = ModelStore().root / f"checkpoints/{POSE}.safetensors", "wider-naive-litehrnet-18"
    shipped = make_request(
        store=whole_store, name=POSE, checkpoint=checkpoint, variant=variant, size=(128, 96), sigmoid=False, force="once more"
    )
    before = ModelStore(whole_store).manifest
    release(shipped, quiet)
    after = ModelStore(whole_store).manifest
    old, new = (m.get(POSE, "pose") for m in (before, after))
    assert (new.sha256, new.kernels) == (old.sha256, old.kernels), "the same checkpoint compiles to the same bytes"
    assert (after.defaults, after.downloads) == (before.defaults, before.downloads)
    text = (whole_store / "manifest.toml").read_text()
    assert all(line in text.splitlines() for line in (ModelStore().root / "manifest.toml").read_text().splitlines() if line.startswith("#"))


def test_a_failure_half_way_leaves_the_store_as_it_was(
    make_request: MakeRequest, whole_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(whole_store)
    written: list[str] = []

    def full_disk(path: Path, content: bytes) -> None:
        written.append(path.name)
        if path == whole_store / "manifest.toml":
            raise PosewireError("no space left")
        path.write_bytes(content)

    monkeypatch.setattr(places, "write_atomically", full_disk)
    with pytest.raises(PosewireError, match="no space left"):
        release(make_request(store=whole_store, force="a test"), quiet)
    assert written[-2:] == ["tiny.md", "manifest.toml"], "it fails at the very end"
    assert contents(whole_store) == before


def test_a_killed_release_is_undone_by_the_next(whole_store: Path) -> None:
    before = contents(whole_store)
    script = (
        "import os, sys; from pathlib import Path; from model_store.release import places; store = Path(sys.argv[1])\n"
        "write = places.write_atomically\n"
        "def dying(path, content):\n    os._exit(9) if path.name == 'manifest.toml' else write(path, content)\n"
        "places.write_atomically = dying\n"
        "with places.workplace(store):\n"
        "    places.put(store, {'cards/' + sys.argv[2] + '.md': b'new', 'weights/new.onnx': b'new', 'manifest.toml': b'new'})\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'service'}:{ROOT}"}
    assert subprocess.run([sys.executable, "-c", script, whole_store, POSE], env=environment, check=False).returncode == 9
    assert (whole_store / "weights/new.onnx").exists()
    with places.workplace(whole_store):
        pass
    assert contents(whole_store) == before


def test_one_release_at_a_time(tmp_path: Path) -> None:
    with places.workplace(tmp_path), pytest.raises(PosewireError, match="another release is at work"), places.workplace(tmp_path):
        pass
    assert contents(tmp_path) == {}


def test_scores_are_calibrated_on_images_of_the_training(make_request: MakeRequest) -> None:
    said: list[str] = []
    request = make_request(other=True)
    release(request, said.append)
    [line] = [line for line in said if "scores as sigmoid(" in line]
    assert "keypoints of images of the training" in line
    card = (request.store / request.files["card"]).read_text()
    assert "Scores as sigmoid(" in card
    store = ModelStore(request.store)
    spec = store.manifest.get("tiny", "pose")
    store.verify(spec)
    assert (spec.output.calibration is not None) == line.endswith("; taken")


def test_a_detector_is_released_and_shares_its_file_with_another_size(make_request: MakeRequest, whole_store: Path, tmp_path: Path) -> None:
    checkpoint, other = tmp_path / "detector.safetensors", tmp_path / "other.safetensors"
    for seed, path in enumerate((checkpoint, other)):
        path.write_bytes(write_safetensors(random_detector(LEAN, seed), {}))
    how = {"store": whole_store, "variant": LEAN, "force": "a test"}
    release(make_request(**how, name="people-96", checkpoint=checkpoint, size=(96, 96), default=True), quiet)
    large = make_request(**how, name="people-128", checkpoint=checkpoint, size=(128, 160), files_of="people-96")
    release(large, quiet)
    store = ModelStore(whole_store)
    small = store.manifest.default("detector")
    assert (small.name, [a.metric for a in small.accuracy]) == ("people-96", ["person AP (boxes)", "person AP50 (boxes)"])
    spec = store.manifest.get("people-128", "detector")
    assert (spec.file, spec.sha256, spec.input.height, spec.input.width) == (small.file, small.sha256, 128, 160)
    assert (whole_store / "cards/people-128.md").read_text().startswith("# people-128\n")
    before = contents(whole_store)
    with pytest.raises(ModelError, match="the file of people-96 is of another network"):
        release(make_request(**how, name="people-64", checkpoint=other, size=(64, 64), files_of="people-96"), quiet)
    with pytest.raises(ModelError, match="'people-1', whose files are to be shared, is not a model of "):
        release(make_request(**how, name="people-64", checkpoint=checkpoint, size=(64, 64), files_of="people-1"), quiet)
    assert contents(whole_store) == before
    done = posewire("predict", ASTRONAUT, "--json", model_store=str(whole_store), detector="people-128", min_detection_score="0")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_served_scores_are_the_calibration_of_the_network_s(make_request: MakeRequest, scale: float) -> None:
    curve = ScoreCurve(scale, -0.4)
    answers = []
    for calibration, name in ((None, "raw"), (curve, "fitted")):
        request = replace(make_request(name=name), calibration=calibration)
        release(request, quiet)
        done = posewire("predict", ASTRONAUT, "--json", model_store=str(request.store), pose=name)
        assert done.returncode == 0, done.stderr
        answers.append([k["score"] for person in json.loads(done.stdout)["people"] for k in person["keypoints"]])
    raw, calibrated = (np.array(scores, np.float32) for scores in answers)
    assert np.ptp(raw) > 0.01
    np.testing.assert_allclose(calibrated, curve(raw), atol=2e-3)  # answers are rounded
