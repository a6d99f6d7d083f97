"""A model in ONNX Runtime, with a session for each batch size where that is faster."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from posewire.backends.device import CPU_PROVIDER, DevicePlan, Runtime
from posewire.errors import ModelError
from posewire.types import FloatArray, UInt8Array

# What a model of any batch calls its first dimension.
_BATCH = "batch"


class OnnxSession:
    """A model with one input, float32 or uint8, and one output of floats; `run` may be called from several threads at once.

    Outputs of another kind, such as class numbers, are never asked for.

    It runs batches of the sizes that are open, 1 from the start, and no others: what does not fit is padded or cut.

    Args:
        model: the ONNX file's bytes.
        name: of the model, for errors.
        plan: the device.
        runtime: ONNX Runtime.
        sizes: of the input's open dimensions but the batch, by their names in the file; what depends on them is computed once, at load.

    Raises:
        ModelError: the bytes are not a model that ONNX Runtime takes, or it has not one such input and output, or it takes batches of
            a fixed size other than 1.
    """

    def __init__(
        self, model: bytes, name: str, plan: DevicePlan, runtime: Runtime = onnxruntime, *, sizes: Mapping[str, int] | None = None
    ) -> None:
        self._model, self._name, self._plan, self._runtime = model, name, plan, runtime
        self._sizes = sizes or {}
        session = self._session(1, plan.intra_op_threads)
        self._alone: Any = None
        inputs = session.get_inputs()
        outputs = [output for output in session.get_outputs() if "float" in output.type]
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(f"{name} has {len(inputs)} inputs and {len(outputs)} outputs of floats; one of each is needed")
        self._input, self._output = inputs[0].name, outputs[0].name
        batch = inputs[0].shape[0]
        if isinstance(batch, int) and batch != 1:
            raise ModelError(f"{name} takes batches of {batch} only; a batch of 1 or of any size is needed")
        self._sessions = {1: session}
        # Of an item; a size that the file leaves open is its name, or None.
        self.input_shape: tuple[int | str | None, ...] = tuple(inputs[0].shape[1:])
        self.output_shape: tuple[int | str | None, ...] = tuple(outputs[0].shape[1:])
        self.input_type: str = inputs[0].type  # as ONNX Runtime spells it: tensor(float), tensor(uint8)
        self.provider: str = session.get_providers()[0]

    def _session(self, size: int, threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Within a run they must spin, to wake one takes as long as an operator; after it they would for nothing.
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

    def open(self, size: int) -> bool:
        """From now on run batches of `size` as wholes; False: the file takes single items only.

        Raises:
            ModelError: as the first time.
        """
        session = self._session(size, self._plan.intra_op_threads) if self._plan.fixed_sizes else self._sessions[1]
        takes = session.get_inputs()[0].shape[0]
        if isinstance(takes, int) and takes != size:
            return False
        self._sessions = self._sessions | {size: session}
        return True

    @property
    def can_be_alone(self) -> bool:
        """Whether `open_alone` had threads to give."""
        return self._alone is not None

    def open_alone(self) -> None:
        """From now on run single items on more threads where the caller says that they are alone, if there are more to be had.

        Raises:
            ModelError: as the first time.
        """
        if self._plan.alone_threads > self._plan.intra_op_threads:
            self._alone = self._session(1, self._plan.alone_threads)

    def close(self, size: int) -> None:
        """No longer run batches of `size` as wholes."""
        self._sessions = {known: session for known, session in self._sessions.items() if known != size}

    def padding(self, items: int) -> int:
        """Blank items that a run of so many items takes with it."""
        if items in self._sessions:
            return 0
        if (whole := self._filled_to(items)) is not None:
            return whole - items
        return self.padding(items - max(size for size in self._sessions if size < items))

    def _filled_to(self, items: int) -> int | None:
        return min((size for size in self._sessions if items < size < 2 * items), default=None)

    def run(self, batch: FloatArray | UInt8Array, *, alone: bool = False) -> FloatArray:
        """The model's output for a batch, (N, …) float32 each.

        As a whole where the size is open. The next size that is open takes it with padding, unless half of it would be
        padding; else it is cut.

        Args:
            batch: of the model's input.
            alone: nothing else is likely to run meanwhile.
        """
        if alone and self.can_be_alone and len(batch) == 1:
            return self._run(self._alone, batch)
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
            output = session.run([self._output], {self._input: batch})[0]
        else:
            # Bound by hand, the copies to and from the device go through the arena once, with no hidden extra ones.
            binding = session.io_binding()
            binding.bind_cpu_input(self._input, batch)
            binding.bind_output(self._output)
            session.run_with_iobinding(binding)
            output = binding.copy_outputs_to_cpu()[0]
        return np.asarray(output, np.float32)
