"""What is released serves; what is worse, or fails half-way, leaves the store as it was."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from model_store.release import places
from model_store.release.steps import release
from posewire.errors import ModelError, PosewireError
from posewire.evaluation.reliability import Curve
from posewire.models.litehrnet.checkpoint import read_checkpoint
from posewire.models.store import ModelStore
from tests.pictures import ASTRONAUT
from tests.release.conftest import MakeRequest, contents
from tests.test_cli import posewire

ROOT = Path(__file__).parents[2]


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
    assert [a.dataset for a in spec.accuracy] == ["made up: 1 persons on 2 pictures"] * 4
    assert any("compiled graph and the plain one differ by at most" in line for line in said)
    card = files[request.files["card"]].decode()
    assert card.startswith("# tiny\n")
    assert "It knows $nothing." in card
    assert "Nothing shipped" in card
    assert all(line in card for line in ("made up: 1 persons on 2 pictures", "none: random weights", "Take it."))
    state = read_checkpoint(request.store / request.files["checkpoint"])
    assert state.keys() == read_checkpoint(work / "random.safetensors").keys()
    done = posewire("predict", ASTRONAUT, "--json", model_store=str(request.store), pose="tiny", max_batch="1")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["people"][0]["keypoints"]) == 17


def test_a_worse_model_is_refused_unless_there_is_a_reason(make_request: MakeRequest, whole_store: Path) -> None:
    before = contents(whole_store)
    with pytest.raises(ModelError, match=r"is worse than the \d\.\d+ of litehrnet18-128x96 .*nothing was written; --force"):
        release(make_request(store=whole_store), quiet)
    assert contents(whole_store) == before
    release(make_request(store=whole_store, force="only a test", default=True), quiet)
    assert "It is **worse**, and ships all the same: only a test" in (whole_store / "cards/tiny.md").read_text()
    manifest = ModelStore(whole_store).manifest
    assert manifest.default("pose").name == "tiny"
    assert [spec.name for spec in manifest.models] == ["litehrnet18-128x96", "persondet-320", "tiny"]
    after = contents(whole_store)
    assert {name: after[name] for name in before if name != "manifest.toml"} == {n: c for n, c in before.items() if n != "manifest.toml"}


def test_what_ships_can_be_released_again(make_request: MakeRequest, whole_store: Path) -> None:
    shipped = make_request(
        store=whole_store, name="litehrnet18-128x96", checkpoint=ModelStore().root / "checkpoints/pose.pt", size=(128, 96)
    )
    before = ModelStore(whole_store).manifest
    release(shipped, quiet)
    after = ModelStore(whole_store).manifest
    old, new = (m.get("litehrnet18-128x96", "pose") for m in (before, after))
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
        "    places.put(store, {'cards/persondet-320.md': b'new', 'weights/new.onnx': b'new', 'manifest.toml': b'new'})\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'service'}:{ROOT}"}
    assert subprocess.run([sys.executable, "-c", script, whole_store], env=environment, check=False).returncode == 9
    assert (whole_store / "weights/new.onnx").exists()
    with places.workplace(whole_store):
        pass
    assert contents(whole_store) == before


def test_one_release_at_a_time(tmp_path: Path) -> None:
    with places.workplace(tmp_path), pytest.raises(PosewireError, match="another release is at work"), places.workplace(tmp_path):
        pass
    assert contents(tmp_path) == {}


def test_scores_are_calibrated_on_pictures_of_the_training(make_request: MakeRequest) -> None:
    said: list[str] = []
    request = make_request(other=True)
    release(request, said.append)
    told = "\n".join(said)
    assert "scores as sigmoid(" in told
    assert "fitted on 16 people of the training" in told
    card = (request.store / request.files["card"]).read_text()
    assert "Scores as sigmoid(" in card
    ModelStore(request.store).verify(ModelStore(request.store).manifest.get("tiny"))


def test_the_detector_is_released_too(make_request: MakeRequest, whole_store: Path) -> None:
    checkpoint = ModelStore().root / "checkpoints/detector.pt"
    request = make_request(store=whole_store, name="people-320", checkpoint=checkpoint, variant="persondet", size=(320, 320), default=True)
    release(request, quiet)
    store = ModelStore(whole_store)
    spec = store.manifest.default("detector")
    assert (spec.name, [a.metric for a in spec.accuracy]) == ("people-320", ["person AP (boxes)", "person AP50 (boxes)"])
    assert hashlib.sha256(store.verified_bytes(spec)).hexdigest() == spec.sha256
    assert store.manifest.default("pose").name == "litehrnet18-128x96"


def test_calibrated_scores_are_the_curve_of_the_scores(make_request: MakeRequest) -> None:
    network, curve = make_request().network, Curve(1.7, -0.4)
    batch = np.random.default_rng(1).normal(size=(1, 3, 64, 64)).astype(np.float32)
    sessions = [onnxruntime.InferenceSession(n.onnx(), providers=["CPUExecutionProvider"]) for n in (network, network.with_scores(curve))]
    raw, changed = (session.run(["heatmaps"], {"input": batch})[0] for session in sessions)
    assert np.ptp(raw) > 0.1
    np.testing.assert_allclose(changed, curve(raw.ravel()).reshape(raw.shape), atol=1e-4)
