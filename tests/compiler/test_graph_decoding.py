"""DARK as nodes against DARK in numpy, on heatmaps of every kind."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from posewire.pipeline.heads.heatmaps import decode_dark
from posewire.tools.compiler.litehrnet.builder import OnnxBuilder
from posewire.tools.compiler.litehrnet.decoding import DarkDecoder
from posewire.types import FloatArray

KEYPOINTS, HEIGHT, WIDTH = 17, 32, 24
SHAPE = (40, KEYPOINTS, HEIGHT, WIDTH)


def bumps(rng: np.random.Generator) -> FloatArray:
    """Gaussians of all widths, heights and places, also at and beyond the border."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    places = rng.uniform(-0.05, 1.05, (*SHAPE[:2], 2)) * [WIDTH, HEIGHT]
    widths, heights = rng.uniform(0.6, 4, (*SHAPE[:2], 1, 1)), 10 ** rng.uniform(-7, 0, (*SHAPE[:2], 1, 1))
    squares = (xs - places[..., 0, None, None]) ** 2 + (ys - places[..., 1, None, None]) ** 2
    return np.asarray(heights * np.exp(-squares / (2 * widths**2)), np.float32)


HEATMAPS: dict[str, Callable[[np.random.Generator], FloatArray]] = {
    "bumps": bumps,
    "noisy bumps": lambda rng: np.clip(bumps(rng) + rng.normal(0, 0.02, SHAPE), 0, 1).astype(np.float32),
    "ties": lambda rng: np.asarray(np.round(bumps(rng) * 8) / 8, np.float32),
    "noise": lambda rng: rng.uniform(0, 1, SHAPE).astype(np.float32),
    "spikes": lambda rng: (rng.uniform(0, 1, SHAPE) ** 40).astype(np.float32),
    "logits": lambda rng: rng.normal(0, 3, SHAPE).astype(np.float32),
    "nothing": lambda _: np.zeros(SHAPE, np.float32),
    "flat": lambda _: np.ones(SHAPE, np.float32),
}


def decoded(heatmaps: FloatArray, sigma: float) -> FloatArray:
    builder = OnnxBuilder()
    _, keypoints, height, width = heatmaps.shape
    DarkDecoder(builder, keypoints, height, width, sigma).decode("heatmaps", 1, "keypoints")
    model = builder.model(
        "dark",
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", *heatmaps.shape[1:]])],
        [helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["batch", heatmaps.shape[1], 3])],
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"heatmaps": heatmaps})[0], np.float32)


@pytest.mark.parametrize("kind", HEATMAPS)
@pytest.mark.parametrize("sigma", [0.3, 1.15, 2.0, 3.0])
def test_the_graph_finds_what_numpy_finds(kind: str, sigma: float) -> None:
    heatmaps = HEATMAPS[kind](np.random.default_rng(0))
    found = decoded(heatmaps, sigma)
    xy, scores = decode_dark(heatmaps, sigma)
    assert np.abs(found[..., :2] - xy).max() < 1e-3
    np.testing.assert_array_equal(found[..., 2], scores)


def test_every_border_pixel_is_treated_alike() -> None:
    """A peak at each pixel of the heatmap in turn, one keypoint each, with a slope that would move it."""
    count = HEIGHT * WIDTH
    heatmaps = np.linspace(0.1, 0.2, count, dtype=np.float32).reshape(HEIGHT, WIDTH) * np.ones((count, 1, 1, 1), np.float32)
    heatmaps.reshape(count, count)[np.arange(count), np.arange(count)] = 1
    found = decoded(heatmaps, 1.15)
    xy, _ = decode_dark(heatmaps, 1.15)
    assert np.abs(found[..., :2] - xy).max() < 1e-3
    moved = np.abs(xy - np.round(xy)).max(-1).reshape(HEIGHT, WIDTH) > 0
    assert moved[2:-3, 2:-3].mean() > 0.9
    assert not moved[:2].any()


def test_of_equal_peaks_the_first_is_taken() -> None:
    heatmaps = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    heatmaps[0, 0, 10, 12] = heatmaps[0, 0, 10, 5] = heatmaps[0, 0, 20, 3] = 1
    assert decoded(heatmaps, 1.0)[0, 0] == pytest.approx([5, 10, 1], abs=1e-3)
