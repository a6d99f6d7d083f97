"""The detector's graph, compiled without torch, against the file that ships."""

import numpy as np
import onnxruntime
import pytest

from model_store.release.artefacts import Network
from model_store.release.detector_graph import compile_detector
from posewire.errors import ModelError
from posewire.models.store import ModelStore
from posewire.types import FloatArray
from tests.pictures import astronaut

ROOT = ModelStore().root
CHECKPOINT = ROOT / "checkpoints/detector.pt"


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.of(CHECKPOINT, "persondet", 320, 320)


def run(model: bytes, batch: FloatArray) -> FloatArray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["boxes_scores"], {"images": batch})[0], np.float32)


@pytest.mark.parametrize("plain", [True, False])
def test_the_graph_is_the_model_that_shipped(network: Network, plain: bool) -> None:
    picture = np.ascontiguousarray(astronaut()[:320, 50:370, ::-1].transpose(2, 0, 1)[None], np.float32)
    batch = np.concatenate([picture, np.random.default_rng(0).uniform(0, 255, picture.shape).astype(np.float32)])
    expected = run((ROOT / "weights/persondet-320.onnx").read_bytes(), batch)
    found = run(network.onnx(plain=plain), batch)
    assert expected[0, :, 4].max() > 0.3, "nobody is found: the comparison would say little"
    np.testing.assert_allclose(found[..., :4], expected[..., :4], atol=0.01)
    np.testing.assert_allclose(found[..., 4], expected[..., 4], atol=1e-5)


def test_another_size_has_its_own_cells(network: Network) -> None:
    model = compile_detector(network.state, 64, 96).SerializeToString()
    assert run(model, np.zeros((3, 3, 64, 96), np.float32)).shape == (3, 8 * 12 + 4 * 6 + 2 * 3, 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"s9.0.weight": np.zeros(3, np.float32)}, "1 unexpected"), ({"o.2.bias": None}, "'o.2.bias' is missing")],
)
def test_other_weights_are_refused(network: Network, change: dict[str, FloatArray | None], words: str) -> None:
    state = {name: array for name, array in {**network.state, **change}.items() if array is not None}
    with pytest.raises(ModelError, match=words):
        compile_detector(state, 320, 320)


@pytest.mark.parametrize("size", [(100, 320), (320, 0)])
def test_a_size_that_does_not_halve_evenly_is_refused(network: Network, size: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match="multiples of 32"):
        compile_detector(network.state, *size)
