"""RTMDet-nano: its weights by name, the graph that is made of them, and the published file of it."""

import os
import re
from math import prod
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from posewire.errors import ModelError
from posewire.registry.networks.rtmdet import DETECTOR_VARIANTS, STRIDES, check_size, get_detector_variant, parameters
from posewire.registry.weights.norms import bias_only
from posewire.tools.compiler.rtmdet.graph import compile_detector
from posewire.tools.compiler.rtmdet.published import published_weights
from posewire.types import FloatArray, UInt8Array

SHARED = Path(os.environ.get("POSEWIRE_SHARED", Path(__file__).parents[3] / "shared"))
PUBLISHED = SHARED / "teachers/rtmdet-nano-person.onnx"

every_variant = pytest.mark.parametrize("name", DETECTOR_VARIANTS)


def random_detector(name: str, seed: int = 0) -> dict[str, FloatArray]:
    """Weights whose maps neither vanish nor explode."""
    rng, state = np.random.default_rng(seed), {}
    for key, shape in parameters(get_detector_variant(name)).items():
        if key.endswith("running_var"):
            values = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 4:
            values = rng.normal(0, (2 / prod(shape[1:])) ** 0.5, shape)
        else:
            values = rng.normal(1 if key.endswith("bn.weight") else 0, 0.1, shape)
        state[key] = values.astype(np.float32)
    return state


def export_of(state: dict[str, FloatArray]) -> bytes:
    """An ONNX file with the node names of torch's export of mmdet's network, and norms that only add a bias folded in."""
    nodes, arrays = [], []
    for key, weight in state.items():
        if not key.endswith(".weight") or key.endswith(".bn.weight"):
            continue
        stem = key.removesuffix(".weight")
        bias = state[f"{stem.removesuffix('.conv')}.bn.bias" if stem.endswith(".conv") else f"{stem}.bias"]
        name = re.sub(r"(stem|stage\d)\.", r"\1/\1.", stem.removeprefix("bbox_head."))
        name = name.replace("blocks.", "blocks/blocks.") if "_blocks." not in name else re.sub(r"\.blocks\.", "/blocks/blocks.", name)
        for part in ("depthwise_conv", "pointwise_conv", "main_conv", "short_conv", "final_conv", "conv1", "conv2", "attention", "conv"):
            name = re.sub(rf"\.{part}(?=[./]|$)", f"/{part}", name)
        name = name.replace("attention.fc", "attention/fc")
        arrays += [numpy_helper.from_array(weight, key), numpy_helper.from_array(bias, f"{key}.bias")]
        nodes.append(helper.make_node("Conv", ["x", key, f"{key}.bias"], [f"{key}.out"], name=f"/model/{name}/Conv"))
    graph = helper.make_graph(nodes, "export", [], [], arrays)
    return bytes(helper.make_model(graph).SerializeToString())


def folded_detector(name: str) -> dict[str, FloatArray]:
    """Random weights whose norms only add a bias, as in an export."""
    state = random_detector(name)
    for key in [key for key in state if key.endswith(".bn.weight")]:
        norm = key.removesuffix(".weight")
        state |= bias_only(norm, state[f"{norm}.bias"])
    return state


def rows(model: bytes, images: UInt8Array, **sizes: int) -> FloatArray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    for dimension, length in sizes.items():
        options.add_free_dimension_override_by_name(dimension, length)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


def noise(count: int, height: int, width: int) -> UInt8Array:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def test_it_has_the_published_number_of_parameters() -> None:
    shapes = parameters(get_detector_variant("rtmdet-nano"))
    count = sum(prod(shape) for key, shape in shapes.items() if not key.endswith(("running_mean", "running_var")))
    assert round(count / 1e6, 2) == 0.99  # 0.99 M in mmpose's table of RTMDet-nano for people


@every_variant
def test_the_passes_change_nothing_and_one_file_takes_every_size_and_batch(name: str) -> None:
    variant, state = get_detector_variant(name), random_detector(name)
    lean, plain = (compile_detector(variant, state, plain=p).SerializeToString() for p in (False, True))
    for height, width in ((64, 64), (96, 160)):
        images = noise(3, height, width)
        expected = rows(plain, images)
        assert expected.shape == (3, sum((height // s) * (width // s) for s in STRIDES), 5)
        size = np.array([width, height, width, height, 1])
        for found in (rows(lean, images), rows(lean, images[:1], batch=1, height=height, width=width)):
            assert np.abs((found - expected[: len(found)]) / size).max() < 1e-4
        assert np.abs(expected[0] - expected[1]).max() > 1e-3  # other images, other boxes


def test_rows_are_corners_in_pixels_cell_by_cell() -> None:
    state = {key: np.zeros_like(array) for key, array in random_detector("rtmdet-nano").items()}
    for level in range(3):
        state[f"bbox_head.rtm_reg.{level}.bias"][:] = [0.5, 1, 2, 3]  # left, top, right, bottom, in strides
        state[f"bbox_head.rtm_cls.{level}.bias"][:] = -level
    found = rows(compile_detector(get_detector_variant("rtmdet-nano"), state).SerializeToString(), noise(1, 64, 96))[0]
    expected = [
        [x * s - 0.5 * s, y * s - s, x * s + 2 * s, y * s + 3 * s, 1 / (1 + np.exp(level))]
        for level, s in enumerate(STRIDES)
        for y in range(64 // s)
        for x in range(96 // s)
    ]
    assert np.allclose(found, expected, atol=1e-4)


def test_unknown_variants_and_sizes_are_named() -> None:
    with pytest.raises(ModelError, match="'rtmdet-huge' is not a detector variant; known: rtmdet-nano, "):
        get_detector_variant("rtmdet-huge")
    with pytest.raises(ModelError, match="multiples of 32 pixels, not of height 320, width 300"):
        check_size(320, 300)


@pytest.mark.parametrize("damage", [b"", b"no model", b"\x08\x01"])
def test_a_file_that_is_not_the_published_one_is_told_in_one_line(damage: bytes) -> None:
    with pytest.raises(ModelError, match=r"^x\.onnx: [^\n]+\Z"):
        published_weights(damage, get_detector_variant("rtmdet-nano"), "x.onnx")


def test_an_export_gives_its_weights_by_mmdet_s_names() -> None:
    variant, state = get_detector_variant("rtmdet-nano"), folded_detector("rtmdet-nano")
    found = published_weights(export_of(state), variant, "x.onnx")
    assert list(found) == list(parameters(variant))
    for key, array in found.items():
        np.testing.assert_array_equal(array, state[key], err_msg=key)
    missing = {key: array for key, array in state.items() if not key.startswith("neck.reduce_layers.1.")}
    with pytest.raises(ModelError, match=r"x\.onnx: not this network's weights: 5 missing \('neck\.reduce_layers\.1\.conv\.weight'"):
        published_weights(export_of(missing), variant, "x.onnx")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published RTMDet-nano is not here")
def test_the_published_file_gives_the_same_boxes_through_our_graph() -> None:
    content, variant = PUBLISHED.read_bytes(), get_detector_variant("rtmdet-nano")
    images = noise(1, 320, 320)
    found = rows(compile_detector(variant, published_weights(content, variant, "x")).SerializeToString(), images)[0]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    mean, std = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    bgr = ((images[..., ::-1] - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    levels = []
    for raw, stride in zip(session.run(None, {"images": bgr}), STRIDES, strict=True):
        ys, xs = np.mgrid[: raw.shape[1], : raw.shape[2]] * stride
        points, cells = np.stack([xs, ys], -1).reshape(-1, 2), raw.reshape(-1, 5)
        levels.append(np.concatenate([points - cells[:, 1:3], points + cells[:, 3:], 1 / (1 + np.exp(-cells[:, :1]))], 1))
    assert np.abs((found - np.concatenate(levels)) / [320, 320, 320, 320, 1]).max() < 1e-4
