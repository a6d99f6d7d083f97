"""What a checkpoint becomes, and the proof that all of it is the same network."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import onnxruntime

from posewire.backends.cpu_kernels.folded import fold, read, write
from posewire.backends.cpu_kernels.network import plan, supports
from posewire.backends.cpu_kernels.session import KernelSession
from posewire.errors import ModelError
from posewire.registry.networks import rtmdet
from posewire.registry.networks.litehrnet import spec as litehrnet
from posewire.registry.specs import Task
from posewire.registry.weights.safetensors import write_safetensors
from posewire.tools.compiler.litehrnet.checkpoint import read_checkpoint, require
from posewire.tools.compiler.litehrnet.graph import compile_graph
from posewire.tools.compiler.litehrnet.options import MEAN, STD, GraphOptions
from posewire.tools.compiler.litehrnet.passes import Passes
from posewire.tools.compiler.rtmdet.graph import compile_detector
from posewire.types import FloatArray, UInt8Array

_FARTHEST = 1e-4  # of scores and heatmaps 0..1, and of boxes in units of the input's side
_IMAGES = 3
_STRIDE: Final = 4  # of Lite-HRNet's heatmaps
_NMS_IOU: Final = 0.65
_PAD: Final = 114


class Network(Protocol):
    """A checkpoint's network at one size."""

    @property
    def variant(self) -> str:
        """Name of the architecture."""

    @property
    def task(self) -> Task:
        """What it does."""

    @property
    def state(self) -> Mapping[str, FloatArray]:
        """The checkpoint's tensors."""

    @property
    def height(self) -> int:
        """Of the input, pixels."""

    @property
    def width(self) -> int:
        """Of the input, pixels."""

    def onnx(self, *, plain: bool = False) -> bytes:
        """The graph that is served; plain: as the network is written down, without any of the compiler's passes."""

    def kernels(self) -> bytes | None:
        """The weights for Posewire's kernels; None: they cannot run it."""

    def described(self) -> dict[str, Any]:
        """Input and output as the manifest describes them."""

    def batch(self, images: UInt8Array) -> FloatArray | UInt8Array:
        """Images (N, height, width, 3) uint8 RGB as the graph takes them."""

    def torch_answers(self, images: UInt8Array) -> FloatArray:
        """What the torch network gives for images, as the graph gives it.

        Raises:
            ImportError: torch is not installed.
        """

    def units(self) -> FloatArray:
        """What an output is divided by before outputs are compared, broadcast over it."""


@dataclass(frozen=True, slots=True, eq=False)
class PoseNetwork:
    """A Lite-HRNet; see `Network`."""

    variant: str
    state: Mapping[str, FloatArray]
    height: int  # pixels
    width: int  # pixels
    sigma: float  # heatmap pixels: of the Gaussians of its training
    sigmoid: bool  # it was trained to give logits of the heatmaps
    task: Task = "pose"

    @property
    def _variant(self) -> litehrnet.Variant:
        return litehrnet.get_variant(self.variant)

    def onnx(self, *, plain: bool = False) -> bytes:
        """See `Network`."""
        options = GraphOptions(sigmoid=self.sigmoid, passes=Passes.none() if plain else Passes())
        return bytes(compile_graph(self._variant, self.state, self.height, self.width, options).SerializeToString())

    def kernels(self) -> bytes | None:
        """See `Network`."""
        return write(fold(self._variant, self.state, sigmoid=self.sigmoid)) if supports(self._variant) else None

    def described(self) -> dict[str, Any]:
        """See `Network`."""
        return {
            "keypoints": "coco-17",
            "input": {"height": self.height, "width": self.width, "colour": "RGB", "mean": list(MEAN), "std": list(STD)},
            "output": {"layout": "heatmaps", "stride": _STRIDE, "sigma": self.sigma, "flip_shift": 1},
        }

    def batch(self, images: UInt8Array) -> FloatArray:
        """See `Network`."""
        return np.ascontiguousarray(((images - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2), np.float32)

    def torch_answers(self, images: UInt8Array) -> FloatArray:
        """See `Network`."""
        torch = importlib.import_module("torch")
        module = importlib.import_module("model_store.training.networks").build(self.variant)
        module.load_state_dict({name: torch.from_numpy(array) for name, array in self.state.items()}, strict=False)
        with torch.inference_mode():
            heatmaps = module.eval()(torch.from_numpy(self.batch(images)))
            return np.asarray((torch.sigmoid(heatmaps) if self.sigmoid else heatmaps).numpy(), np.float32)

    def units(self) -> FloatArray:
        """See `Network`."""
        return np.ones(1, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class DetectorNetwork:
    """An RTMDet-nano; see `Network`. Its graph takes images of any size, so that models of several sizes may share it."""

    variant: str
    state: Mapping[str, FloatArray]
    height: int  # pixels
    width: int  # pixels
    task: Task = "detector"

    def onnx(self, *, plain: bool = False) -> bytes:
        """See `Network`."""
        return bytes(compile_detector(rtmdet.get_detector_variant(self.variant), self.state, plain=plain).SerializeToString())

    def kernels(self) -> None:
        """See `Network`: they run pose networks only."""

    def described(self) -> dict[str, Any]:
        """See `Network`."""
        colours = {"colour": "RGB", "mean": list(rtmdet.MEAN), "std": list(rtmdet.STD)}
        return {
            "pad_value": _PAD,
            "nms_iou": _NMS_IOU,
            "input": {"format": "uint8-nhwc", "height": self.height, "width": self.width} | colours,
            "output": {"layout": "boxes_scores", "strides": list(rtmdet.STRIDES)},
        }

    def batch(self, images: UInt8Array) -> UInt8Array:
        """See `Network`."""
        return images

    def torch_answers(self, images: UInt8Array) -> FloatArray:
        """See `Network`."""
        torch = importlib.import_module("torch")
        module = importlib.import_module("model_store.training.rtmdet").build(self.variant)
        module.load_state_dict({name: torch.from_numpy(array) for name, array in self.state.items()}, strict=False)
        bgr = ((images - np.array(rtmdet.MEAN)) / np.array(rtmdet.STD))[..., ::-1].transpose(0, 3, 1, 2)
        with torch.inference_mode():
            levels = [level.numpy() for level in module.eval()(torch.from_numpy(np.ascontiguousarray(bgr, np.float32)))]
        rows = []
        for level, stride in zip(levels, rtmdet.STRIDES, strict=True):
            ys, xs = np.mgrid[: level.shape[2], : level.shape[3]].astype(np.float32) * stride
            left, top, right, bottom = (level[:, side] * stride for side in range(1, 5))
            score = 1 / (1 + np.exp(-level[:, 0]))
            corners = np.stack([xs - left, ys - top, xs + right, ys + bottom, score], 1)
            rows.append(corners.reshape(len(images), 5, -1).transpose(0, 2, 1))
        return np.asarray(np.concatenate(rows, 1), np.float32)

    def units(self) -> FloatArray:
        """See `Network`."""
        return np.array([self.width, self.height] * 2 + [1], np.float32)


def network_of(checkpoint: Path, variant: str, height: int, width: int, *, sigma: float, sigmoid: bool) -> Network:
    """Read a checkpoint.

    Args:
        checkpoint: as `read_checkpoint` takes it.
        variant: of Lite-HRNet or of RTMDet.
        height: of the input, pixels.
        width: of the input, pixels.
        sigma: heatmap pixels, of a pose network's training.
        sigmoid: a pose network was trained to give logits.

    Raises:
        ModelError: there is no such variant, the checkpoint is not of it, or the size does not fit.
    """
    state = read_checkpoint(checkpoint)
    if variant in rtmdet.DETECTOR_VARIANTS:
        rtmdet.check_size(height, width)
        expected = rtmdet.parameters(rtmdet.get_detector_variant(variant))
        return DetectorNetwork(variant, require(state, expected, source=checkpoint), height, width)
    if variant not in litehrnet.VARIANTS:
        raise ModelError(f"{variant!r} is not a variant; known: {', '.join([*litehrnet.VARIANTS, *rtmdet.DETECTOR_VARIANTS])}")
    litehrnet.check_size(height, width)
    expected = litehrnet.parameters(litehrnet.get_variant(variant))
    return PoseNetwork(variant, require(state, expected, source=checkpoint), height, width, sigma, sigmoid)


def slim_checkpoint(network: Network) -> bytes:
    """The averaged weights and nothing else, as safetensors: what a training may start from again."""
    return write_safetensors(network.state, {"format": "pt", "variant": network.variant})


def prove(network: Network, onnx: bytes, kernels: bytes | None) -> Iterator[str]:
    """Compare everything that is to be served with the plain graph, and with torch where that is installed; a line each.

    Raises:
        ModelError: two of them differ by more than rounding.
    """
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, network.height, network.width, 3), np.uint8)
    batch = network.batch(images)
    plain = _run(network.onnx(plain=True), batch)
    yield _compared(network, "the compiled graph and the plain one", _run(onnx, batch), plain)
    if kernels is not None:
        try:
            session = KernelSession(plan(read(kernels, network.variant), network.height, network.width, MEAN, STD))
        except ModelError as error:
            yield f"Posewire's kernels were not compared: {error}"
        else:
            yield _compared(network, "Posewire's kernels and the plain graph", session.run(images), plain)
    try:
        answers = network.torch_answers(images)
    except ImportError:
        yield "the torch network was not compared: torch is not installed"
    else:
        yield _compared(network, "the plain graph and the torch network", plain, answers)


def _run(model: bytes, batch: FloatArray | UInt8Array) -> FloatArray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0], np.float32)


def _compared(network: Network, what: str, a: FloatArray, b: FloatArray) -> str:
    farthest = float((np.abs(a - b) / network.units()).max())
    if not farthest <= _FARTHEST:
        raise ModelError(f"{what} differ by {farthest:.2g}, more than {_FARTHEST:g}: this must not ship")
    return f"{what} differ by at most {farthest:.1e}"
