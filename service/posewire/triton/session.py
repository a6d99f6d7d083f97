"""A network that another model of the same Triton server runs: a session of business logic scripting (BLS)."""

import logging
from typing import Any

import numpy as np

from posewire.backends.base import Shape, joined
from posewire.errors import InferenceFailed, Overloaded
from posewire.registry.specs import ModelInput
from posewire.triton.networks import Network, item_shape
from posewire.types import FloatArray, InputFormat, UInt8Array

log = logging.getLogger(__name__)


class BlsSession:
    """Sends batches to a model of Triton, which joins them with those of other requests: an `InferenceSession`.

    Args:
        pb_utils: the module `triton_python_backend_utils`.
        network: the model and its tensors.
        described: the network's input, as the manifest says.
        output_shape: of one item, as its head reads it; the export compared it with the graph.
    """

    def __init__(self, pb_utils: Any, network: Network, described: ModelInput, output_shape: Shape) -> None:
        self.provider = "Triton"
        self._pb_utils = pb_utils
        self._network = network
        # The answer is read on the CPU, also if the network runs on a GPU.
        self._memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)
        self.input_format: InputFormat = described.format
        self.input_shape: Shape = item_shape(described)
        self.output_shape: Shape = output_shape

    def run(self, batch: FloatArray | UInt8Array, *, exclusive: bool = False) -> FloatArray:  # noqa: ARG002 - Triton has its own threads
        """Run the network.

        Args:
            batch: (N, ...) of the model's input.
            exclusive: has no effect.

        Returns:
            (N, ...) float32.

        Raises:
            Overloaded: the queue of the model is full.
            InferenceFailed: the model failed; the log has the cause.
        """
        step = self._network.max_batch or 1
        parts = [self._run(batch[at : at + step]) for at in range(0, len(batch), step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def open_size(self, size: int) -> bool:
        """Return whether a batch of `size` is one request."""
        return size <= max(1, self._network.max_batch)

    def close_size(self, size: int) -> None:
        """Do nothing: no size is opened."""

    def padding(self, items: int) -> int:  # noqa: ARG002 - whatever their number
        """Return 0: nothing is padded here."""
        return 0

    def open_exclusive(self) -> bool:
        """Return False: the number of threads is Triton's."""
        return False

    def _run(self, batch: FloatArray | UInt8Array) -> FloatArray:
        pb_utils, network = self._pb_utils, self._network
        request = pb_utils.InferenceRequest(
            model_name=network.model,
            requested_output_names=list(network.outputs),
            inputs=[pb_utils.Tensor(network.input, np.ascontiguousarray(batch))],
            preferred_memory=self._memory,
        )
        response = request.exec()
        if response.has_error():
            error = response.error()
            log.error("%s failed: %s", network.model, error.message())
            if error.code() == pb_utils.TritonError.UNAVAILABLE:
                raise Overloaded("the server is at its limit; try again", limit="queue")
            raise InferenceFailed("the model could not be run on this image; try again")
        tensors = [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in network.outputs]
        return joined([np.array(tensor, np.float32) for tensor in tensors])  # copies: the memory of the tensors is Triton's
