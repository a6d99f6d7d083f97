"""The compiled graph against the torch network that it was made from."""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from posewire.registry.networks.litehrnet.spec import VARIANTS, get_variant, parameters
from posewire.tools.compiler.litehrnet.graph import compile_graph
from posewire.tools.compiler.litehrnet.options import MEAN, STD, GraphOptions
from posewire.tools.compiler.litehrnet.passes import Passes
from tests.compiler.test_graph import HEIGHT, WIDTH, assert_equal, images, random_state, run

torch: Any = pytest.importorskip("torch", reason="torch is not installed: the compiled graph is not compared with the network")
networks: Any = importlib.import_module("model_store.training.networks")

STORE = Path(__file__).parents[2] / "model_store"
PASSES = {
    "all passes": Passes(),
    "none": Passes.none(),
    "untracked": replace(Passes(), track_channels=False),
}


def network(name: str, state: dict[str, Any], keypoints: int = 17) -> Any:
    built = networks.build(name, keypoints)
    missing = built.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return built.eval()


def heatmaps(built: Any, batch: Any) -> Any:
    with torch.no_grad():
        return built(torch.from_numpy(batch)).numpy()


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("name", VARIANTS)
def test_the_compiled_graph_equals_the_network(name: str, passes: str) -> None:
    variant = get_variant(name)
    state = random_state(variant)
    assert set(state) == set(parameters(variant))
    graph = compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(passes=PASSES[passes]))
    assert_equal(run(graph, images(3)), heatmaps(network(name, state), images(3)))


@pytest.mark.parametrize("name", VARIANTS)
def test_pixels_and_a_sigmoid_in_the_graph(name: str) -> None:
    variant = get_variant(name, keypoints=16)
    state = random_state(variant)
    pixels = np.random.default_rng(2).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    normalised = ((pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).astype(np.float32).transpose(0, 3, 1, 2)
    graph = compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(input="uint8-nhwc", sigmoid=True))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["heatmaps"], {"input": pixels})[0]
    logits = heatmaps(network(name, state, 16), np.ascontiguousarray(normalised))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits.astype(np.float64))), atol=1e-4)


def test_the_checkpoint_in_the_network_is_the_model_that_ships() -> None:
    built = networks.build("litehrnet-18")
    built.load_state_dict(torch.load(STORE / "checkpoints/pose.pt", weights_only=True)["ema"])
    batch = np.random.default_rng(3).normal(size=(2, 3, 128, 96)).astype(np.float32)
    session = onnxruntime.InferenceSession(STORE / "weights/litehrnet18-128x96.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = torch.sigmoid(built.eval()(torch.from_numpy(batch))).numpy()
    assert np.ptp(expected) > 0.01, "the maps are flat: the comparison would say nothing"
    np.testing.assert_allclose(session.run(["heatmaps"], {"input": batch})[0], expected, rtol=1e-3, atol=1e-5)
