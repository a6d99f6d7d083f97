"""A model repository with the models that ship, and a server of it in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posewire.config import load_settings
from posewire.pipeline.pose_pipeline import PosePipeline
from posewire.tools.triton.export import export
from tests.triton.server import Server


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the models that ship."""
    folder = tmp_path_factory.mktemp("triton") / "models"
    export(load_settings({}), folder)
    return folder


@pytest.fixture(scope="session")
def loaded(repository: Path) -> Server:
    """Take `server`."""
    return Server(repository)


@pytest.fixture
def server(loaded: Server) -> Iterator[Server]:
    """A server of the repository."""
    for sizes in loaded.batches.values():
        sizes.clear()
    yield loaded
    loaded.failing.clear()


@pytest.fixture(scope="session")
def pipeline() -> PosePipeline:
    """The same models in this process, on the runtime that Triton has for them."""
    return PosePipeline.load(device="cpu", pose_runtime="onnxruntime")
