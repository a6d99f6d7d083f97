"""One ONNX Runtime session a model."""

from typing import Any

import numpy as np
import onnxruntime

from posewire.errors import ModelError
from posewire.inference.device import CPU_PROVIDER, DevicePlan, Runtime
from posewire.types import FloatArray, UInt8Array

# What a model of any batch calls its first dimension.
_BATCH = "batch"


class OnnxSession:
    """A model with one input, float32 or uint8, and one output of floats; `run` may be called from several threads at once.

    Outputs of another kind, such as class numbers, are never asked for.

    Args:
        model: the ONNX file's bytes.
        name: of the model, for errors.
        plan: the device.
        runtime: ONNX Runtime.

    Raises:
        ModelError: the bytes are not a model that ONNX Runtime takes, or it has not one such input and output, or it takes batches of
            a fixed size other than 1.
    """

    def __init__(self, model: bytes, name: str, plan: DevicePlan, runtime: Runtime = onnxruntime) -> None:
        options = onnxruntime.SessionOptions()
        # On a CPU runs go side by side, one a core (DevicePlan.workers); a second thread in each would fight for them.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if plan.one_by_one:
            options.add_free_dimension_override_by_name(_BATCH, 1)
        try:
            self._session: Any = runtime.InferenceSession(
                model,
                sess_options=options,
                providers=[provider for provider, _ in plan.providers],
                provider_options=[dict(settings) for _, settings in plan.providers],
                enable_fallback=0,  # it would print to standard output, lose the reason and open the model on another provider
            )
        except Exception as error:
            raise ModelError(f"{name} cannot be opened: {(str(error) or type(error).__name__).splitlines()[0]}") from error
        inputs = self._session.get_inputs()
        outputs = [output for output in self._session.get_outputs() if "float" in output.type]
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(f"{name} has {len(inputs)} inputs and {len(outputs)} outputs of floats; one of each is needed")
        self._input, self._output = inputs[0].name, outputs[0].name
        batch = inputs[0].shape[0]
        if isinstance(batch, int) and batch != 1:
            raise ModelError(f"{name} takes batches of {batch} only; a batch of 1 or of any size is needed")
        self._one_by_one = batch == 1
        # Of an item; a size that the file leaves open is its name, or None.
        self.input_shape: tuple[int | str | None, ...] = tuple(inputs[0].shape[1:])
        self.output_shape: tuple[int | str | None, ...] = tuple(outputs[0].shape[1:])
        self.input_type: str = inputs[0].type  # as ONNX Runtime spells it: tensor(float), tensor(uint8)
        self.provider: str = self._session.get_providers()[0]

    def run(self, batch: FloatArray | UInt8Array) -> FloatArray:
        """The model's output for a batch, (N, …) float32 each; one by one where the file or the plan says so."""
        if len(batch) == 1 or not self._one_by_one:
            return self._run(batch)
        return np.concatenate([self._run(batch[i : i + 1]) for i in range(len(batch))])

    def _run(self, batch: FloatArray | UInt8Array) -> FloatArray:
        if self.provider == CPU_PROVIDER:
            output = self._session.run([self._output], {self._input: batch})[0]
        else:
            # Bound by hand, the copies to and from the device go through the arena once, with no hidden extra ones.
            binding = self._session.io_binding()
            binding.bind_cpu_input(self._input, batch)
            binding.bind_output(self._output)
            self._session.run_with_iobinding(binding)
            output = binding.copy_outputs_to_cpu()[0]
        return np.asarray(output, np.float32)
