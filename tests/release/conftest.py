"""Checkpoints, held-out images and what a release says of itself, all made here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model_store.release.about import read_about
from model_store.release.artefacts import network_of
from model_store.release.request import Request
from posewire.registry.networks.litehrnet.spec import get_variant
from posewire.registry.store import ModelStore
from posewire.registry.weights.safetensors import write_safetensors
from posewire.tools.evaluate.annotations import Annotations
from tests.compiler.test_graph import random_state
from tests.evaluate.made import annotation, make_set

VARIANT = "litehrnet-18"
ABOUT = """
title = "Made up, \\"quoted\\""
licence = "CC0-1.0"
made_by = "a test"
data = "none: random weights"
recipe = "none"
limits = "- It knows $nothing."
terms = "Take it."
"""

MakeRequest = Callable[..., Request]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`random.safetensors`, `about.toml`, a held-out set in `set` and one of the training in `other`, with 16 people."""
    folder = tmp_path_factory.mktemp("release")
    (folder / "random.safetensors").write_bytes(write_safetensors(random_state(get_variant(VARIANT)), {}))
    (folder / "about.toml").write_text(ABOUT)
    make_set(folder / "set", [annotation(1, 1)])
    make_set(folder / "other", [annotation(i, 10 + i) for i in range(16)], people=16, first_id=10)
    return folder


@pytest.fixture
def make_request(work: Path, tmp_path: Path) -> MakeRequest:
    """A request; unless told, of the random network at 64x64 into a store that is not there yet."""

    def make(
        *, store: Path | None = None, name: str = "tiny", checkpoint: Path | None = None, other: bool = False,
        variant: str = VARIANT, size: tuple[int, int] = (64, 64), force: str | None = None, default: bool = False,
        files_of: str | None = None, sigmoid: bool = True,
    ) -> Request:  # fmt: skip
        network = network_of(checkpoint or work / "random.safetensors", variant, *size, sigma=2.0, sigmoid=sigmoid)
        held_out, more = (Annotations(work / n / "annotations.json", work / n / "images") for n in ("set", "other"))
        about = read_about(work / "about.toml")
        chosen = store or tmp_path / "store"
        return Request(chosen, name, network, about, held_out, "made up", more if other else None, force, default, files_of)

    return make


@pytest.fixture
def whole_store(tmp_path: Path) -> Path:
    """A store with links to what ships, and a manifest of its own."""
    shipped, store = ModelStore().root, tmp_path / "whole"
    for folder in ("weights", "cards", "checkpoints"):
        (store / folder).mkdir(parents=True)
        for file in (shipped / folder).iterdir():
            (store / folder / file.name).symlink_to(file)
    (store / "manifest.toml").write_bytes((shipped / "manifest.toml").read_bytes())
    return store


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
