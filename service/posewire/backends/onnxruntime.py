"""The backend `onnxruntime`: any model that ships as an ONNX file, on every device."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posewire.backends.base import OpenedModel, Shape, fits, joined, register_backend
from posewire.backends.device import CPU_PROVIDER, DevicePlan, Runtime
from posewire.backends.runtime import onnx_runtime
from posewire.errors import ModelError
from posewire.registry.specs import ModelSpec
from posewire.registry.store import ModelStore
from posewire.types import FloatArray, InputFormat, UInt8Array

# The name of the first dimension of a model that takes any batch.
_BATCH = "batch"


@register_backend("onnxruntime")
def open_in_onnxruntime(spec: ModelSpec, store: ModelStore, plan: DevicePlan, runtime: Runtime) -> OpenedModel:
    """Open a model's ONNX file.

    Raises:
        ModelError: the file is missing, damaged or not what the manifest says.
    """
    sizes = {"height": spec.input.height, "width": spec.input.width}
    session = OnnxSession(store.verified_bytes(spec), spec.name, plan, runtime, sizes=sizes, outputs=spec.output.outputs)
    _require_input(spec, session)
    return OpenedModel(session, spec)


class OnnxSession:
    """A model with one input, float32 or uint8, and one output of floats, or several that are named: an `InferenceSession`.

    Other outputs, such as class numbers, are not computed.

    Args:
        model: the ONNX file's bytes.
        name: of the model, for errors.
        plan: the device.
        runtime: None: ONNX Runtime.
        sizes: of the input's open dimensions but the batch, by their names in the file; what depends on them is computed once, at load.
        outputs: names of the outputs to read, of any type of numbers; several are flattened and joined, item by item. Empty: the one
            output of floats.

    Raises:
        ModelError: the bytes are not a model that ONNX Runtime takes, or it has not one such input and output, or it takes batches of
            a fixed size other than 1.
    """

    def __init__(
        self,
        model: bytes,
        name: str,
        plan: DevicePlan,
        runtime: Runtime | None = None,
        *,
        sizes: Mapping[str, int] | None = None,
        outputs: Sequence[str] = (),
    ) -> None:
        self._model, self._name, self._plan, self._runtime = model, name, plan, runtime or onnx_runtime()
        self._sizes = sizes or {}
        session = self._session(1, plan.intra_op_threads)
        self._exclusive: Any = None
        inputs = session.get_inputs()
        read = _outputs_to_read(session.get_outputs(), outputs, name)
        if len(inputs) != 1 or not read or (len(read) > 1 and not outputs):
            raise ModelError(f"{name} has {len(inputs)} inputs and {len(read)} outputs of floats; one of each is needed")
        self._input, self._outputs = inputs[0].name, [output.name for output in read]
        batch = inputs[0].shape[0]
        if isinstance(batch, int) and batch != 1:
            raise ModelError(f"{name} takes batches of {batch} only; a batch of 1 or of any size is needed")
        self._sessions = {1: session}
        self.input_shape: Shape = tuple(inputs[0].shape[1:])
        self.output_shape: Shape = _joined_shape([tuple(output.shape[1:]) for output in read])
        self.input_type: str = inputs[0].type  # as ONNX Runtime spells it: tensor(float), tensor(uint8)
        self.input_format: InputFormat = _input_format(self.input_type, self.input_shape)
        self.provider: str = session.get_providers()[0]

    def _session(self, size: int, threads: int) -> Any:
        options = onnx_runtime().SessionOptions()
        options.intra_op_num_threads = threads
        # Threads spin within a run, because to wake one takes as long as an operator. After a run they sleep.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        for dimension, length in self._sizes.items():
            options.add_free_dimension_override_by_name(dimension, length)
        if self._plan.fixed_sizes:
            options.add_free_dimension_override_by_name(_BATCH, size)
        try:
            return self._runtime.InferenceSession(
                self._model,
                sess_options=options,
                providers=[provider for provider, _ in self._plan.providers],
                provider_options=[dict(settings) for _, settings in self._plan.providers],
                enable_fallback=0,  # it would print to standard output, lose the reason and open the model on another provider
            )
        except Exception as error:
            raise ModelError(f"{self._name} cannot be opened: {(str(error) or type(error).__name__).splitlines()[0]}") from error

    def open_size(self, size: int) -> bool:
        """Run batches of `size` in one piece from now on; False: the file takes single items only.

        Raises:
            ModelError: as the first time.
        """
        session = self._session(size, self._plan.intra_op_threads) if self._plan.fixed_sizes else self._sessions[1]
        takes = session.get_inputs()[0].shape[0]
        if isinstance(takes, int) and takes != size:
            return False
        self._sessions = self._sessions | {size: session}
        return True

    def open_exclusive(self) -> bool:
        """Open a session on more threads for exclusive runs of single items; False: the plan has no more threads.

        Raises:
            ModelError: as the first time.
        """
        if self._exclusive is None and self._plan.exclusive_threads > self._plan.intra_op_threads:
            self._exclusive = self._session(1, self._plan.exclusive_threads)
        return self._exclusive is not None

    def close_size(self, size: int) -> None:
        """Run batches of `size` in parts again."""
        self._sessions = {known: session for known, session in self._sessions.items() if known != size}

    def padding(self, items: int) -> int:
        """Return how many blank items a run of `items` items computes beside them."""
        if items in self._sessions:
            return 0
        if (whole := self._filled_to(items)) is not None:
            return whole - items
        return self.padding(items - max(size for size in self._sessions if size < items))

    def _filled_to(self, items: int) -> int | None:
        return min((size for size in self._sessions if items < size < 2 * items), default=None)

    def run(self, batch: FloatArray | UInt8Array, *, exclusive: bool = False) -> FloatArray:
        """Run the model.

        A batch of an open size runs in one piece. Another is padded to the next open size, unless half of that would be padding;
        else it is cut.

        Args:
            batch: (N, ...) of the model's input.
            exclusive: nothing else runs on the machine meanwhile.

        Returns:
            (N, ...) float32.
        """
        if exclusive and self._exclusive is not None and len(batch) == 1:
            return self._run(self._exclusive, batch)
        sessions = self._sessions
        if session := sessions.get(len(batch)):
            return self._run(session, batch)
        if (whole := self._filled_to(len(batch))) is not None:
            padding = np.zeros((whole - len(batch), *batch.shape[1:]), batch.dtype)
            return self._run(sessions[whole], np.concatenate([batch, padding]))[: len(batch)]
        part = max(size for size in sessions if size < len(batch))
        return np.concatenate([self.run(batch[:part]), self.run(batch[part:])])

    def _run(self, session: Any, batch: FloatArray | UInt8Array) -> FloatArray:
        if self.provider == CPU_PROVIDER:
            outputs = session.run(self._outputs, {self._input: batch})
        else:
            # Bound by hand, the copies to and from the device go through the arena once, with no hidden extra ones.
            binding = session.io_binding()
            binding.bind_cpu_input(self._input, batch)
            for name in self._outputs:
                binding.bind_output(name)
            session.run_with_iobinding(binding)
            outputs = binding.copy_outputs_to_cpu()
        return joined([np.asarray(output, np.float32) for output in outputs])


def _outputs_to_read(found: Sequence[Any], names: Sequence[str], model: str) -> list[Any]:
    """Return the outputs of these names, in their order; without names the outputs of floats.

    Raises:
        ModelError: the file has no output of a name.
    """
    if not names:
        return [output for output in found if "float" in output.type]
    by_name = {output.name: output for output in found}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ModelError(f"{model} has no output {missing[0]!r}; it has {', '.join(map(repr, by_name))}")
    return [by_name[name] for name in names]


def _joined_shape(shapes: Sequence[Shape]) -> Shape:
    """Return the shape of an item whose outputs have these shapes; the length of joined ones is None if a file leaves it open."""
    if len(shapes) == 1:
        return shapes[0]
    sizes = [size for shape in shapes for size in shape]
    if not all(isinstance(size, int) for size in sizes):
        return (None,)
    return (sum(math.prod(size for size in shape if isinstance(size, int)) for shape in shapes),)


def _input_format(tensor: str, shape: Shape) -> InputFormat:
    if tensor == "tensor(float)":
        return "float32-nchw"
    return "uint8-nhwc" if shape[-1:] == (3,) else "uint8-nchw"


def _require_input(spec: ModelSpec, session: OnnxSession) -> None:
    """Check that the file takes what the manifest says.

    Raises:
        ModelError: it takes something else.
    """
    described = spec.input
    kind = "tensor(float)" if described.format == "float32-nchw" else "tensor(uint8)"
    sides = described.height, described.width
    shape = (*sides, 3) if described.format == "uint8-nhwc" else (3, *sides)
    if session.input_type != kind or not fits(session.input_shape, shape):
        raise ModelError(
            f"{spec.name}: by the manifest an item is {shape} of {kind} ({described.format}); "
            f"the file takes {session.input_shape} of {session.input_type}"
        )
