"""A detector on the kernels computes what its INT8 graph computes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from model_store.release.detector_graph import compile_detector
from model_store.release.detector_steps import detector_steps
from posewire.errors import ModelError
from posewire.kernels.detection import LEVEL, plan
from posewire.kernels.library import FILE, load_kernels
from posewire.kernels.quantized import Boxes, Convolution, Double, Entry, Join, Maxima, Quantized, Sum, read, write
from posewire.kernels.session import KernelSession
from posewire.models.litehrnet.checkpoint import read_checkpoint
from posewire.models.quantizing import quantize_detector
from posewire.models.store import ModelStore
from posewire.types import FloatArray, UInt8Array
from tests.kernels.test_parity import levels, pictures

kernels = pytest.mark.skipif(LEVEL not in levels(), reason="the kernels are not built, or this processor has no AVX-512 VNNI")

ZEROS, ONES = (0.0,) * 3, (1.0,) * 3


def random_network(seed: int = 0) -> Mapping[str, FloatArray]:
    """The shipped network with other weights; those of the first convolution are such that float32 sums of theirs are exact."""
    rng = np.random.default_rng(seed)
    shipped = read_checkpoint(ModelStore().root / "checkpoints/detector.pt")
    state: dict[str, FloatArray] = {}
    for name, array in shipped.items():
        spread = (2 / array[0].size) ** 0.5 if array.ndim > 1 else 0.1
        around = 1.0 if name.endswith(("running_var", "1.weight")) else 0.0
        state[name] = np.asarray(around + rng.normal(0, spread, array.shape), np.float32)
        if name.endswith("running_var"):
            state[name] = np.abs(state[name]) + np.float32(0.1)
    return state


def exact(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A detector's graph whose first weights are multiples of a power of two."""
    first = next(node for node in graph.graph.node if node.op_type == "Conv")
    for name in first.input[1:]:
        _change(graph, name, lambda values: np.round(values * 1024) / 1024)
    return graph


def exactly_scaled(graph: onnx.ModelProto) -> onnx.ModelProto:
    """An INT8 graph in which the first scale is a power of two: then it does not matter who divides by it, and who multiplies."""
    first = next(node for node in graph.graph.node if node.op_type == "QuantizeLinear")
    (reader,) = (
        node for node in graph.graph.node if node.op_type == "Conv" and node.input[0] == f"{first.input[0]}_DequantizeLinear_Output"
    )
    (bias,) = (node for node in graph.graph.node if node.output[0] == reader.input[2])
    by = _change(graph, first.input[1], lambda scale: 2 ** np.round(np.log2(scale)))
    _change(graph, bias.input[1], lambda scale: scale * by)
    return graph


def _change(graph: onnx.ModelProto, name: str, change: Callable[[FloatArray], Any]) -> float:
    """Change a constant; how many times larger its first value is then."""
    (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name == name)
    values = onnx.numpy_helper.to_array(tensor)
    changed = np.asarray(change(values), np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed, name))
    return float(changed.flat[0] / values.flat[0]) if values.flat[0] else 1.0


def int8(height: int, width: int, seed: int = 0) -> bytes:
    model = exact(compile_detector(random_network(seed), height, width))
    content = quantize_detector(bytes(model.SerializeToString()), (tensor(picture) for picture in pictures(4, height, width)))
    return bytes(exactly_scaled(onnx.load_from_string(content)).SerializeToString())


def tensor(picture: UInt8Array) -> FloatArray:
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)


def run(model: bytes, picture: UInt8Array) -> FloatArray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": tensor(picture)})[0][0], np.float32)


@pytest.fixture(scope="module")
def network() -> Quantized:
    return detector_steps(int8(64, 96), "it")


@kernels
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(64, 96), (320, 320), (96, 416)])
def test_boxes_are_those_of_the_int8_graph(size: tuple[int, int], seed: int) -> None:
    model = int8(*size, seed)
    session = KernelSession(plan(detector_steps(model, "it"), *size, ZEROS, ONES))
    for picture in pictures(3, *size):
        expected = run(model, picture)
        (found,) = session.run(picture[None])
        assert np.ptp(expected[:, 4]) > 0.01, "the boxes are all alike: the comparison would say little"
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@kernels
def test_colours_and_normalisation_go_into_the_first_convolution(network: Quantized) -> None:
    (picture,) = pictures(1, 64, 96)
    plain = KernelSession(plan(network, 64, 96, ZEROS, ONES)).run(picture[None])
    swapped = KernelSession(plan(network, 64, 96, ZEROS, ONES, "BGR")).run(picture[None, ..., ::-1])
    np.testing.assert_allclose(swapped, plain, rtol=1e-4, atol=1e-3)
    entry = network.steps[0].out
    weight = network.state[f"{entry}.weight"] * np.array(STD, np.float32)[:, None, None]
    bias = network.state[f"{entry}.bias"] + (network.state[f"{entry}.weight"] * np.array(MEAN, np.float32)[:, None, None]).sum((1, 2, 3))
    state = {**network.state, f"{entry}.weight": weight, f"{entry}.bias": bias}
    normalised = KernelSession(plan(Quantized(network.steps, state), 64, 96, MEAN, STD)).run(picture[None])
    inside = np.s_[:, 30:60]  # around the picture is the mean, and not black
    assert np.abs(normalised - plain)[inside].mean() < 0.5


MEAN, STD = (16.0, 32.0, 8.0), (2.0, 4.0, 8.0)


@kernels
def test_a_picture_that_is_alone_has_the_same_boxes_on_two_threads(network: Quantized) -> None:
    session = KernelSession(plan(network, 64, 96, ZEROS, ONES), alone_threads=2)
    assert not session.can_be_alone
    session.open_alone()
    assert session.can_be_alone
    batch = pictures(64, 64, 96)
    expected = session.run(batch)
    for _ in range(10):
        for picture, boxes in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(session.run(picture[None], alone=True)[0], boxes)


@kernels
def test_without_more_threads_nothing_runs_on_them(network: Quantized) -> None:
    session = KernelSession(plan(network, 64, 96, ZEROS, ONES))
    session.open_alone()
    assert not session.can_be_alone


@pytest.mark.skipif(not FILE.is_file(), reason="the kernels are not built: no C++ compiler was here")
@pytest.mark.parametrize("level", [level for level in levels() if level != LEVEL])
def test_a_lesser_processor_is_told_apart(network: Quantized, level: str) -> None:
    with pytest.raises(ModelError, match="processors of the level vnni only"):
        KernelSession(plan(network, 64, 96, ZEROS, ONES), load_kernels(level=level))


# A small network of the kernels' own steps, for what no graph of ours has.
SCALE = 0.5


def weights(name: str, outputs: int, inputs: int, side: int) -> dict[str, Any]:
    rng = np.random.default_rng(len(name) + outputs)
    return {
        f"{name}.weight": rng.integers(-127, 128, (outputs, inputs, side, side), np.int8),
        f"{name}.bias": rng.integers(-1000, 1000, outputs, np.int32),
        f"{name}.factor": np.full(outputs, 1 / (64 * inputs * side), np.float32),
    }


def small(*steps: Any, boxes_of: str, channels: int = 16, **state: Any) -> Quantized:
    rng = np.random.default_rng(3)
    entry: dict[str, Any] = {"e.weight": rng.integers(-4, 5, (16, 3, 3, 3)).astype(np.float32) / 64, "e.bias": np.zeros(16, np.float32)}
    head = {"b.0.weight": rng.normal(0, 0.01, (5, channels)).astype(np.float32), "b.0.bias": np.zeros(5, np.float32)}
    return Quantized((Entry(out="e", scale=SCALE), *steps, Boxes(sources=(boxes_of,), strides=(8,), out="b")), {**entry, **state, **head})


class Plainly:
    """The steps in NumPy, one after the other, every map by itself."""

    def __init__(self, network: Quantized, picture: UInt8Array) -> None:
        self.maps: dict[str, FloatArray] = {}  # (H, W, C) bytes as floats
        self.scales: dict[str, float] = {}
        for step in network.steps:
            match step:
                case Entry():
                    self._keep(step.out, _convolved(picture, network.state[f"{step.out}.weight"], 2) / step.scale, step.scale)
                case Convolution():
                    sums = _convolved(self.maps[step.source], network.state[f"{step.out}.weight"], step.stride)
                    self._keep(step.out, (sums + network.state[f"{step.out}.bias"]) * network.state[f"{step.out}.factor"], step.scale)
                case Sum():
                    self._keep(step.out, sum(self.maps[s] * np.float32(self.scales[s] / step.scale) for s in step.sources), step.scale)
                case Join():
                    parts = [np.round(self.maps[s] * np.float32(self.scales[s] / step.scale)) for s in step.sources]
                    self._keep(step.out, np.concatenate(parts, 2), step.scale)
                case Double():
                    self._keep(step.out, self.maps[step.source].repeat(2, 0).repeat(2, 1), self.scales[step.source])
                case Maxima():
                    self._keep(step.out, _maxima(self.maps[step.source]), self.scales[step.source])

    def _keep(self, name: str, values: Any, scale: float) -> None:
        self.maps[name], self.scales[name] = np.clip(np.round(values), 0, 255).astype(np.float32), scale


def _convolved(source: Any, weight: Any, stride: int) -> FloatArray:
    border = weight.shape[-1] // 2
    padded = np.pad(np.asarray(source, np.float64), ((border, border), (border, border), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[-2:], (0, 1))[::stride, ::stride]
    return np.asarray(np.einsum("hwcij,ocij->hwo", windows, weight.astype(np.float64)), np.float32)


def _maxima(source: FloatArray) -> FloatArray:
    padded = np.pad(source, ((2, 2), (2, 2), (0, 0)))
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (0, 1)).max((-1, -2)), np.float32)


def conv(source: str, out: str, stride: int = 1, scale: float = SCALE) -> Convolution:
    return Convolution(source=source, out=out, stride=stride, scale=scale)  # type: ignore[arg-type]


NETWORKS = {
    "a map that two joins want is copied into one of them": small(
        conv("e", "x"),
        Join(sources=("e", "x"), out="j", scale=SCALE),
        Join(sources=("j", "x"), out="k", scale=SCALE / 2),
        conv("k", "y"),
        boxes_of="y",
        **weights("x", 16, 16, 3),
        **weights("y", 16, 48, 3),
    ),
    "a map twice in a join": small(
        conv("e", "x", 2, 0.3),
        Join(sources=("x", "x"), out="j", scale=0.4),
        conv("j", "y"),
        boxes_of="y",
        **weights("x", 16, 16, 1),
        **weights("y", 16, 32, 1),
    ),
    "a sum that is joined in another scale": small(
        conv("e", "x", 1, 0.25),
        conv("x", "y", 1, 0.7),
        Sum(sources=("y", "x"), out="s", scale=0.6),
        Join(sources=("s", "e"), out="j", scale=0.9),
        conv("j", "z"),
        boxes_of="z",
        channels=48,
        **weights("x", 16, 16, 1),
        **weights("y", 16, 16, 3),
        **weights("z", 48, 32, 3),
    ),
    "maxima and doubles, joined in another scale": small(
        conv("e", "x", 2, 0.2),
        Maxima(source="x", out="m"),
        Double(source="m", out="d"),
        Join(sources=("e", "d"), out="j", scale=0.8),
        boxes_of="j",
        channels=32,
        **weights("x", 16, 16, 3),
    ),
}


@kernels
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_are_computed_as_they_say(name: str) -> None:
    network = read(write(NETWORKS[name]), "it")
    (picture,) = pictures(1, 12, 28)
    plain = Plainly(network, picture)
    last = network.steps[-1]
    assert isinstance(last, Boxes)
    (source,) = last.sources
    values = plain.maps[source] * plain.scales[source]
    assert 0.1 < (values > 0).mean() < 1, "nothing, or nothing else, is rectified: the comparison would say little"
    raw = values.reshape(-1, values.shape[2]) @ network.state["b.0.weight"].T
    ys, xs = np.mgrid[: values.shape[0], : values.shape[1]]
    centre = (raw[:, 1:3] + np.stack([xs, ys], -1).reshape(-1, 2) + 0.5) * 8
    half = np.exp(np.minimum(raw[:, 3:], 6)) * 4
    expected = np.concatenate([centre - half, centre + half, 1 / (1 + np.exp(-raw[:, :1]))], 1)
    (found,) = KernelSession(plan(network, 12, 28, ZEROS, ONES)).run(picture[None])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (small(conv("nothing", "x"), boxes_of="x", **weights("x", 16, 16, 1)), "step x needs nothing, which is not made before it"),
        (small(conv("e", "e"), boxes_of="e"), "step e does not fit those before it"),
        (small(conv("e", "x"), boxes_of="x"), "step x makes 0 channels"),
        (small(conv("e", "x"), boxes_of="x", channels=24, **weights("x", 24, 16, 1)), "step x makes 24 channels"),
        (small(conv("e", "x"), boxes_of="x", **weights("x", 16, 32, 1)), "not those of its steps"),
        (small(conv("e", "x"), boxes_of="x", **weights("x", 16, 16, 5)), "not those of its steps"),
        (small(conv("e", "x"), boxes_of="x", **weights("x", 16, 16, 1), more=np.zeros(1, np.float32)), "not those of its steps"),
        (Quantized(NETWORKS["a map twice in a join"].steps[1:], {}), "does not go from a picture to boxes"),
        (Quantized((), {}), "does not go from a picture to boxes"),
    ],
)
def test_a_network_that_does_not_fit_together_is_refused(network: Quantized, words: str) -> None:
    with pytest.raises(ModelError, match=f"the model: .*{words}"):
        read(write(network), "the model")


CONTENT = write(NETWORKS["a map twice in a join"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (CONTENT[:-4], "cannot be read"),
        (CONTENT.replace(b"posewire-kernels-int8-1", b"posewire-kernels-int8-9"), "not a detector's weights"),
        (CONTENT.replace(b'\\"kind\\":\\"join\\"', b'\\"kind\\":\\"born\\"'), "steps .* cannot be read"),
    ],
)
def test_another_file_is_refused_by_name(content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=f"the model: .*{words}"):
        read(content, "the model")


def test_a_size_that_cannot_be_halved_is_refused(network: Quantized) -> None:
    with pytest.raises(ModelError, match="even height and width"):
        plan(network, 63, 96, ZEROS, ONES)
    with pytest.raises(ModelError, match="halves a map of 3 x"):
        plan(network, 48, 96, ZEROS, ONES)


def test_a_sum_that_no_convolution_ends_in_is_refused() -> None:
    network = small(Sum(sources=("e", "e"), out="s", scale=SCALE), boxes_of="s")
    with pytest.raises(ModelError, match="no convolution makes one for it alone"):
        plan(network, 64, 64, ZEROS, ONES)


def test_a_float32_graph_is_refused() -> None:
    model = compile_detector(random_network(), 64, 64).SerializeToString()
    with pytest.raises(ModelError, match="a convolution to boxes must be 1x1"):
        detector_steps(bytes(model), "it")
