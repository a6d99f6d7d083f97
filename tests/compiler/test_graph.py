"""The graph compiler: whatever it does to the graph, the numbers stay."""

from dataclasses import fields, replace

import numpy as np
import onnx
import onnxruntime
import pytest

from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.spec import VARIANTS, Variant, get_variant, parameters
from posewire.tools.compiler.litehrnet.graph import compile_graph
from posewire.tools.compiler.litehrnet.options import GraphOptions
from posewire.tools.compiler.litehrnet.passes import Passes
from posewire.types import FloatArray

HEIGHT, WIDTH = 96, 64  # the coarsest branch is 3 x 2


def random_state(variant: Variant, seed: int = 0) -> dict[str, FloatArray]:
    """Weights and batch norm statistics at random, scaled so that the maps neither vanish nor explode, and images matter."""
    rng = np.random.default_rng(seed)
    gamma = (0.2, 0.6) if variant.block == "lite" else (0.3, 0.9)
    state = {}
    for key, shape in parameters(variant).items():
        if key.endswith("running_var"):
            values = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1 and key.endswith("weight"):
            values = rng.uniform(*gamma, shape)
        elif len(shape) == 1:
            values = rng.normal(0, 0.3, shape)
        else:
            values = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        # Else the shifts of the many layers to come would drown the image.
        state[key] = (values * (10 if key.startswith("backbone.stem.conv1.bn.") and "running" not in key else 1)).astype(np.float32)
    return state


def images(count: int) -> FloatArray:
    return np.random.default_rng(1).normal(size=(count, 3, HEIGHT, WIDTH)).astype(np.float32)


def run(model: onnx.ModelProto, batch: FloatArray) -> FloatArray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["heatmaps"], {"input": batch})[0], np.float32)


def assert_equal(found: FloatArray, expected: FloatArray) -> None:
    assert found.shape == expected.shape
    assert expected.std() > 0.01, "the maps have vanished: the comparison would say nothing"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", VARIANTS)
def test_images_matter(name: str) -> None:
    """Else the comparisons would prove little."""
    variant = get_variant(name)
    one, other = run(compile_graph(variant, random_state(variant), HEIGHT, WIDTH), images(2))
    assert np.abs(one - other).max() > 0.2 * np.abs(one).max()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("batch", [1, 2, 7, 16])
def test_all_passes_together_change_nothing(name: str, batch: int) -> None:
    variant = get_variant(name)
    state = random_state(variant)
    plain = compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(passes=Passes.none()))
    lean = compile_graph(variant, state, HEIGHT, WIDTH)
    assert len(lean.graph.node) < len(plain.graph.node)
    assert_equal(run(lean, images(batch)), run(plain, images(batch)))


@pytest.mark.parametrize("name", ["litehrnet-18", "naive-litehrnet-18"])
@pytest.mark.parametrize("one", [f.name for f in fields(Passes)])
def test_each_pass_changes_nothing(name: str, one: str) -> None:
    variant = get_variant(name)
    state = random_state(variant)
    plain = run(compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(passes=Passes.none())), images(2))
    options = GraphOptions(passes=replace(Passes.none(), **{one: True}))
    assert_equal(run(compile_graph(variant, state, HEIGHT, WIDTH, options), images(2)), plain)


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_moves_channels_in_the_lean_graph(name: str) -> None:
    variant = get_variant(name)
    lean = compile_graph(variant, random_state(variant), HEIGHT, WIDTH)
    weighting = {"Sigmoid", "Mul", "AveragePool", "GlobalAveragePool"} if variant.block == "lite" else set()
    assert {node.op_type for node in lean.graph.node} == {"Conv", "Relu", "Add", "Resize", "Identity"} | weighting


def test_keypoints_and_sigmoid() -> None:
    variant = get_variant("litehrnet-18", keypoints=16)
    state = random_state(variant)
    logits = run(compile_graph(variant, state, HEIGHT, WIDTH), images(1))
    heatmaps = run(compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(sigmoid=True)), images(1))
    assert heatmaps.shape == (1, 16, HEIGHT // 4, WIDTH // 4)
    np.testing.assert_allclose(heatmaps, 1 / (1 + np.exp(-logits.astype(np.float64))), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(100, 64), (96, 50), (0, 64), (-32, 64)])
def test_a_size_that_does_not_halve_evenly_is_refused(height: int, width: int) -> None:
    variant = get_variant("litehrnet-18")
    with pytest.raises(ModelError, match="multiples of 32"):
        compile_graph(variant, random_state(variant), height, width)
