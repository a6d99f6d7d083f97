"""The interface of a network that is ready to run, and the registry of the backends that open networks."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final, Protocol, TypeAlias

import numpy as np

from posewire.backends.device import DevicePlan, Runtime
from posewire.errors import ConfigError, DeviceError
from posewire.registry.specs import ModelSpec, WeightsFile
from posewire.registry.store import ModelStore
from posewire.types import FloatArray, InputFormat, UInt8Array

log = logging.getLogger(__name__)

AUTO: Final = "auto"

# The modules of the backends that come with Posewire, by the names of the backends. `auto` tries them in this order.
_BUILT_IN: Final = {
    "kernels": "posewire.backends.cpu_kernels.backend",
    "onnxruntime": "posewire.backends.onnxruntime",
}

# The sizes of an item's dimensions. A size that the file leaves open is its name, or None.
Shape: TypeAlias = tuple[int | str | None, ...]


def joined(outputs: Sequence[FloatArray]) -> FloatArray:
    """Return the outputs of one run as one.

    Args:
        outputs: (N, ...) float32 each, of the same N items.

    Returns:
        The output as it is, if there is one; else (N, M): each item's values of all outputs, flattened, in their order.
    """
    if len(outputs) == 1:
        return outputs[0]
    return np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)


def fits(found: Shape, expected: Sequence[int]) -> bool:
    """Return whether a shape is the expected one, where its sizes are fixed."""
    return len(found) == len(expected) and all(a == b for a, b in zip(found, expected, strict=True) if isinstance(a, int))


class Unsupported(Exception):
    """A backend cannot run a model; the message says why."""


class InferenceSession(Protocol):
    """A network that is ready to run: images in, one array of floats out. Every method may be called from any thread.

    A session runs batches of the sizes that are open, 1 from the start. It pads a batch of another size, or cuts it into parts.
    """

    @property
    def provider(self) -> str:
        """The name of what the network runs on, as `/v1/models` shows it."""

    @property
    def input_format(self) -> InputFormat:
        """How the network takes images."""

    @property
    def input_shape(self) -> Shape:
        """The shape of one item of the input."""

    @property
    def output_shape(self) -> Shape:
        """The shape of one item of the output."""

    def run(self, batch: FloatArray | UInt8Array, *, exclusive: bool = False) -> FloatArray:
        """Run the network.

        Args:
            batch: (N, ...) in `input_format`, N at least 1.
            exclusive: nothing else runs on the machine meanwhile, so that a single item may use more threads.

        Returns:
            (N, ...) float32.

        Raises:
            Exception: the batch has another shape or dtype, or the run failed. The type is the backend's own.
        """

    def open_size(self, size: int) -> bool:
        """Run batches of `size` in one piece from now on; False: this session runs items one by one."""

    def close_size(self, size: int) -> None:
        """Run batches of `size` in parts again."""

    def padding(self, items: int) -> int:
        """Return how many blank items a run of `items` items computes beside them."""

    def open_exclusive(self) -> bool:
        """Make ready for exclusive runs; False: they would use no more threads than others. Later calls return the same."""


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A network that is ready to run, and the file that its weights are from."""

    session: InferenceSession
    weights: WeightsFile


# Opens a model of a store on a device. The runtime is ONNX Runtime, or a stand-in for it in tests.
Open: TypeAlias = Callable[[ModelSpec, ModelStore, DevicePlan, Runtime], OpenedModel]

_BACKENDS: dict[str, Open] = {}


def register_backend(name: str) -> Callable[[Open], Open]:
    """Return a decorator that registers a function which opens models, under the name of its backend.

    The function raises `Unsupported` where the backend cannot run the model, and `ModelError` where the model is damaged. `auto`
    tries backends that do not come with Posewire first, the latest before the others.
    """

    def register(opens: Open) -> Open:
        _BACKENDS[name] = opens
        return opens

    return register


def backends() -> dict[str, Open]:
    """Return all backends by name, in the order in which `auto` tries them."""
    for module in _BUILT_IN.values():
        import_module(module)
    added = [name for name in reversed(_BACKENDS) if name not in _BUILT_IN]
    return {name: _BACKENDS[name] for name in (*added, *_BUILT_IN)}


def open_model(spec: ModelSpec, store: ModelStore, plan: DevicePlan, runtime: Runtime, backend: str = AUTO) -> OpenedModel:
    """Open a model on a backend.

    Args:
        spec: of the model.
        store: has its files.
        plan: the device.
        runtime: ONNX Runtime.
        backend: its name, or "auto": the first that can run the model.

    Raises:
        ModelError: a file of the model is missing, damaged or not what the manifest says.
        ConfigError: there is no such backend.
        DeviceError: the backend that was asked for cannot run the model, or none can; the message says why.
    """
    known = backends()
    if backend == AUTO:
        return _open_first(known, spec, store, plan, runtime)
    if backend not in known:
        *names, last = [repr(name) for name in (AUTO, *known)]
        raise ConfigError(f"POSEWIRE_POSE_RUNTIME={backend!r}: input should be {', '.join(names)} or {last}")
    try:
        return known[backend](spec, store, plan, runtime)
    except Unsupported as reason:
        raise DeviceError(f"POSEWIRE_POSE_RUNTIME={backend}: {reason}; set it to auto to let another backend run the model") from None


def _open_first(known: dict[str, Open], spec: ModelSpec, store: ModelStore, plan: DevicePlan, runtime: Runtime) -> OpenedModel:
    reasons = []
    for name, opens in known.items():
        try:
            return opens(spec, store, plan, runtime)
        except Unsupported as reason:
            reasons.append(f"{name}: {reason}")
            # A detector never runs on the kernels: that is not worth a line at every start.
            level = logging.INFO if spec.task == "pose" else logging.DEBUG
            log.log(level, "a backend cannot run a model", extra={"backend": name, "model": spec.name, "reason": str(reason)})
    raise DeviceError(f"no backend can run {spec.name}: {'; '.join(reasons)}")
