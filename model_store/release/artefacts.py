"""What a checkpoint becomes, and the proof that all of it is the same network."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from model_store.release.detector_graph import compile_detector
from posewire.errors import ModelError
from posewire.evaluation.reliability import Curve
from posewire.kernels.folded import fold, read, write
from posewire.kernels.network import plan, supports
from posewire.kernels.session import KernelSession
from posewire.models.litehrnet.checkpoint import read_checkpoint, require
from posewire.models.litehrnet.graph import compile_graph
from posewire.models.litehrnet.options import MEAN, STD, GraphOptions
from posewire.models.litehrnet.passes import Passes
from posewire.models.litehrnet.safetensors import write_safetensors
from posewire.models.litehrnet.spec import Variant, get_variant, parameters
from posewire.models.specs import Task
from posewire.types import FloatArray

DETECTOR: Final = "persondet"  # the variant that is no Lite-HRNet

_FARTHEST = 1e-4  # of scores and heatmaps 0..1, and of boxes in units of the input's side
_PICTURES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A checkpoint's network at one size."""

    variant: str  # of Lite-HRNet, or `DETECTOR`
    state: Mapping[str, FloatArray]
    height: int  # pixels
    width: int  # pixels

    @classmethod
    def of(cls, checkpoint: Path, variant: str, height: int, width: int) -> "Network":
        """Read a checkpoint.

        Raises:
            ModelError: there is no such variant, or the checkpoint is not of it.
        """
        state = read_checkpoint(checkpoint)
        expected = {name: array.shape for name, array in state.items()} if variant == DETECTOR else parameters(get_variant(variant))
        return cls(variant, require(state, expected, source=checkpoint), height, width)

    @property
    def task(self) -> Task:
        """What it does."""
        return "detector" if self.variant == DETECTOR else "pose"

    @property
    def _lite(self) -> Variant:
        return get_variant(self.variant)

    def onnx(self, *, plain: bool = False) -> bytes:
        """The graph that is served; plain: as the network is written down, without any of the compiler's passes."""
        if self.variant == DETECTOR:
            return bytes(compile_detector(self.state, self.height, self.width, plain=plain).SerializeToString())
        options = GraphOptions(sigmoid=True, passes=Passes.none() if plain else Passes())
        return bytes(compile_graph(self._lite, self.state, self.height, self.width, options).SerializeToString())

    def kernels(self) -> bytes | None:
        """The weights for Posewire's kernels; None: they cannot run it."""
        if self.variant == DETECTOR or not supports(self._lite):
            return None
        return write(fold(self._lite, self.state, sigmoid=True))

    def checkpoint(self) -> bytes:
        """The averaged weights and nothing else, as safetensors: what a training may start from again."""
        return write_safetensors(self.state, {"format": "pt", "variant": self.variant})

    def with_scores(self, curve: Curve) -> "Network":
        """The same network whose heatmaps' peaks are what the curve makes of them: it goes into the last layer."""
        weight, bias = (self.state[f"final_layer.{part}"] * np.float32(curve.scale) for part in ("weight", "bias"))
        changed = {"final_layer.weight": weight, "final_layer.bias": bias + np.float32(curve.shift)}
        return replace(self, state={**self.state, **changed})


def prove(network: Network, onnx: bytes, kernels: bytes | None) -> Iterator[str]:
    """Compare everything that is to be served with the plain graph, and with torch where that is installed; a line each.

    Raises:
        ModelError: two of them differ by more than rounding.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (_PICTURES, network.height, network.width, 3), np.uint8)
    batch = _input(network, pixels)
    plain = _run(network.onnx(plain=True), batch)
    yield _compared(network, "the compiled graph and the plain one", _run(onnx, batch), plain)
    if kernels is not None:
        try:
            session = KernelSession(plan(read(kernels, network.variant), network.height, network.width, MEAN, STD))
        except ModelError as error:
            yield f"Posewire's kernels were not compared: {error}"
        else:
            yield _compared(network, "Posewire's kernels and the plain graph", session.run(pixels), plain)
    torch_says = _torch(network, batch)
    if torch_says is None:
        yield "the torch network was not compared: torch is not installed"
    else:
        yield _compared(network, "the plain graph and the torch network", plain, torch_says)


def _input(network: Network, pixels: Any) -> FloatArray:
    channels = pixels if network.variant == DETECTOR else (pixels - np.array(MEAN)) / np.array(STD)
    return np.ascontiguousarray(channels.transpose(0, 3, 1, 2), np.float32)


def _run(model: bytes, batch: FloatArray) -> FloatArray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0], np.float32)


def _compared(network: Network, what: str, a: FloatArray, b: FloatArray) -> str:
    farthest = float((np.abs(a - b) / _scale(network)).max())
    if not farthest <= _FARTHEST:
        raise ModelError(f"{what} differ by {farthest:.2g}, more than {_FARTHEST:g}: this must not ship")
    return f"{what} differ by at most {farthest:.1e}"


def _scale(network: Network) -> Any:
    """Of what is compared: of boxes the input's sides."""
    return np.array([network.width, network.height] * 2 + [1]) if network.variant == DETECTOR else 1.0


def _torch(network: Network, batch: FloatArray) -> FloatArray | None:
    """What the torch network says; None: torch, or the network, is not here."""
    detector = network.variant == DETECTOR
    try:
        torch = importlib.import_module("torch")
        networks = importlib.import_module(f"model_store.training.{'detection.network' if detector else 'networks'}")
    except ImportError:
        return None
    module = networks.build() if detector else networks.build(network.variant)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in network.state.items()}, strict=False)
    with torch.inference_mode():
        answers = module.eval()(torch.from_numpy(batch) / (255 if detector else 1))
        if not detector:
            return np.asarray(torch.sigmoid(answers).numpy(), np.float32)
        return np.asarray(torch.cat([answers[..., 1:], torch.sigmoid(answers[..., :1])], -1).numpy(), np.float32)
