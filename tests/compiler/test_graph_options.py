"""Other inputs, outputs and precisions of the compiled graph: the same numbers as the plain one."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from posewire.backends.preprocess import Preprocessor
from posewire.errors import ModelError
from posewire.pipeline.heads.heatmaps import decode_dark
from posewire.registry.networks.litehrnet.spec import VARIANTS, get_variant
from posewire.registry.specs import ModelInput
from posewire.tools.compiler.litehrnet.graph import compile_graph
from posewire.tools.compiler.litehrnet.options import GraphOptions
from posewire.tools.compiler.litehrnet.passes import Passes
from posewire.types import FloatArray, InputFormat, UInt8Array
from tests.compiler.test_graph import HEIGHT, WIDTH, assert_equal, random_state, run

MEAN, STD = (100.5, 121.25, 90.125), (50.0, 61.5, 44.25)
RAW: list[InputFormat] = ["uint8-nhwc", "uint8-nchw"]

raw = pytest.mark.parametrize("form", RAW)
each_variant = pytest.mark.parametrize("name", VARIANTS)


def pixels(count: int) -> UInt8Array:
    return np.random.default_rng(2).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


def normalised(batch: UInt8Array) -> FloatArray:
    return np.asarray(Preprocessor(ModelInput(height=HEIGHT, width=WIDTH, colour="RGB", mean=MEAN, std=STD))(list(batch)), np.float32)


def laid_out(batch: UInt8Array, form: InputFormat) -> UInt8Array:
    return batch if form == "uint8-nhwc" else np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


def output(model: onnx.ModelProto, batch: Any) -> FloatArray:
    """What the checked model's one output is."""
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": batch})[0], np.float32)


@each_variant
@raw
@pytest.mark.parametrize("passes", [Passes(), Passes.none()], ids=["all", "none"])
def test_raw_pixels_give_what_normalised_ones_give(name: str, form: InputFormat, passes: Passes) -> None:
    variant = get_variant(name)
    state = random_state(variant)
    expected = run(compile_graph(variant, state, HEIGHT, WIDTH), normalised(pixels(3)))
    lean = compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(form, mean=MEAN, std=STD, passes=passes))
    assert_equal(output(lean, laid_out(pixels(3), form)), expected)


@raw
def test_the_border_of_raw_pixels_is_exact(form: InputFormat) -> None:
    """An image of the mean is nothing but border: normalised, it is zeros as what the convolutions pad with."""
    variant = get_variant("litehrnet-18")
    state = random_state(variant)
    whole = (100.0, 121.0, 90.0)
    mean_image = np.broadcast_to(np.array(whole, np.uint8), (1, HEIGHT, WIDTH, 3))
    model = compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(form, mean=whole, std=STD))
    expected = run(compile_graph(variant, state, HEIGHT, WIDTH), np.zeros((1, 3, HEIGHT, WIDTH), np.float32))
    np.testing.assert_array_equal(output(model, laid_out(mean_image, form)), expected)


def test_without_mean_and_std_they_are_imagenets() -> None:
    variant = get_variant("litehrnet-18")
    state = random_state(variant)
    named = GraphOptions("uint8-nhwc", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    found, expected = (
        output(compile_graph(variant, state, HEIGHT, WIDTH, options), pixels(1)) for options in (GraphOptions("uint8-nhwc"), named)
    )
    np.testing.assert_array_equal(found, expected)


@each_variant
@pytest.mark.parametrize("sigmoid", [False, True])
def test_keypoints_are_those_of_the_heatmaps(name: str, sigmoid: bool) -> None:
    variant = get_variant(name)
    state = random_state(variant)
    batch = normalised(pixels(5))
    xy, scores = decode_dark(run(compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(sigmoid=sigmoid)), batch), 1.5)
    options = GraphOptions(output="keypoints", sigma=1.5, sigmoid=sigmoid)
    found = output(compile_graph(variant, state, HEIGHT, WIDTH, options), batch)
    assert found.shape == (5, 17, 3)
    assert np.abs(found[..., :2] / 4 - xy).max() < 1e-3
    np.testing.assert_array_equal(found[..., 2], scores)


@each_variant
def test_float16_is_near_float32(name: str) -> None:
    variant = get_variant(name)
    state = random_state(variant)
    batch = normalised(pixels(2))
    expected = run(compile_graph(variant, state, HEIGHT, WIDTH), batch)
    half = compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(precision="fp16"))
    assert half.graph.input[0].type.tensor_type.elem_type == half.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    single = compile_graph(variant, state, HEIGHT, WIDTH)
    assert half.ByteSize() < 0.7 * single.ByteSize()
    np.testing.assert_allclose(output(half, batch), expected, rtol=0, atol=1e-2 * np.abs(expected).max())


def test_everything_at_once() -> None:
    variant = get_variant("naive-litehrnet-18", keypoints=16)
    state = random_state(variant)
    options = GraphOptions("uint8-nhwc", mean=MEAN, std=STD, output="keypoints", sigma=2.0, sigmoid=True, precision="fp16")
    found = output(compile_graph(variant, state, HEIGHT, WIDTH, options), pixels(4))
    heatmaps = run(compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(sigmoid=True)), normalised(pixels(4)))
    assert found.shape == (4, 16, 3)
    assert np.abs(found[..., 2] - decode_dark(heatmaps, 2.0)[1]).max() < 1e-2


def test_a_weight_beyond_float16_is_refused() -> None:
    variant = get_variant("litehrnet-18")
    state = random_state(variant)
    state["final_layer.weight"] = state["final_layer.weight"] * np.float32(1e6)
    compile_graph(variant, state, HEIGHT, WIDTH)
    with pytest.raises(ModelError, match=r"too large for float16.*fp32"):
        compile_graph(variant, state, HEIGHT, WIDTH, GraphOptions(precision="fp16"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mean": MEAN}, "mean is for uint8"),
        ({"std": STD}, "std is for uint8"),
        ({"input": "uint8-nhwc", "std": (1.0, 0.0, 1.0)}, "std must be above 0"),
        ({"input": "uint8-nhwc", "mean": (1.0, float("nan"), 1.0)}, "mean must be three finite"),
        ({"sigma": 2.0}, "sigma is for the output keypoints"),
        ({"output": "keypoints"}, "needs sigma"),
        ({"output": "keypoints", "sigma": 0.0}, "sigma must be above 0"),
        ({"output": "keypoints", "sigma": float("nan")}, "sigma must be above 0"),
        ({"output": "keypoints", "sigma": 17.0}, "at most 16"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        GraphOptions(**arguments)


def test_a_pass_that_is_not_known_is_refused() -> None:
    with pytest.raises(ModelError, match="'fold' is not a pass; known: share-fuse-term"):
        Passes.without(["fold"])
