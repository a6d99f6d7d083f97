"""`posewire bench`: what it compares and what it says; how fast anything is, no test knows."""

import json
from pathlib import Path

import pytest

from posewire.native.library import FILE
from posewire.registry.store import ModelStore
from tests.test_cli import posewire

STORE = ModelStore()
POSE, DETECTOR = (STORE.path(STORE.manifest.default(task)) for task in ("pose", "detector"))


def test_every_pair_is_told_with_its_spread() -> None:
    done = posewire("bench", "--against", POSE, "--batch", "1", "--batch", "2", "--rounds", "5", "--json")
    rows = json.loads(done.stdout)
    kinds = ["itself (noise)", f"{POSE.name}, whole batch", f"{POSE.name}, one by one"]
    assert [(row["batch"], row["against"]) for row in rows] == [(batch, kind) for batch in (1, 2) for kind in kinds]
    for row in rows:
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["model_ms"] > 0
        assert row["against_ms"] > 0


def test_a_detector_by_name_against_nothing_shows_the_noise() -> None:
    name = STORE.manifest.default("detector").name
    done = posewire("bench", "--model", name, "--batch", "1", "--rounds", "5")
    assert done.returncode == 0, done.stderr
    assert "itself (noise)" in done.stdout.splitlines()[-1]


@pytest.mark.skipif(not FILE.is_file(), reason="the kernels are not built: no C++ compiler was here")
def test_the_kernels_run_beside_a_graph_at_its_size() -> None:
    done = posewire("bench", "--model", POSE.with_suffix(".safetensors"), "--against", POSE, "--batch", "2", "--rounds", "5", "--json")
    assert [row["against"] for row in json.loads(done.stdout)][-1] == f"{POSE.name}, one by one"
    alone = posewire("bench", "--model", POSE.with_suffix(".safetensors"), "--rounds", "5")
    assert (alone.returncode, "give the ONNX file to compare with" in alone.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nobody"], ["nobody", "litehrnet18"]),
        (["--against", str(DETECTOR)], ["nothing to compare", DETECTOR.name]),
        (["--against", str(Path(__file__))], [Path(__file__).name, "cannot be opened"]),
    ],
)
def test_what_cannot_be_compared_is_said(arguments: list[str], words: list[str]) -> None:
    done = posewire("bench", *arguments, "--rounds", "5")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
