"""Pictures into what a model takes, as the manifest says; and whether that is what the file says."""

from collections.abc import Sequence

import numpy as np

from posewire.backends.onnxruntime import OnnxSession
from posewire.backends.tensor import network_input, raw_input
from posewire.errors import ModelError
from posewire.registry.specs import DetectorSpec, KeypointOutput, ModelInput, PoseSpec
from posewire.types import FloatArray, UInt8Array


class ModelFeed:
    """Makes batches for a model; safe on any thread."""

    def __init__(self, described: ModelInput) -> None:
        self._input = described
        self._mean = np.array(described.mean, np.float32)
        self._std = np.array(described.std, np.float32)

    def __call__(self, batch: Sequence[UInt8Array]) -> FloatArray | UInt8Array:
        """Pictures (h, w, 3) uint8 RGB of the model's size as one array."""
        if self._input.format == "float32-nchw":
            return network_input(batch, self._input.colour, self._mean, self._std)
        return raw_input(batch, self._input.colour, channels_first=self._input.format == "uint8-nchw")

    def mirrored(self, batch: FloatArray | UInt8Array) -> FloatArray | UInt8Array:
        """What this made, of the pictures mirrored."""
        return (batch[:, :, ::-1] if self._input.format == "uint8-nhwc" else batch[..., ::-1]).copy()


def for_kernels(described: ModelInput) -> ModelInput:
    """What Posewire's kernels take in the place of an ONNX file: they normalise themselves."""
    return described.model_copy(update={"format": "uint8-nhwc"})


def require_fit(spec: PoseSpec | DetectorSpec, session: OnnxSession) -> None:
    """The file takes, and gives where that is fixed, what the manifest says.

    Raises:
        ModelError: it does not.
    """
    described = spec.input
    kind = "tensor(float)" if described.format == "float32-nchw" else "tensor(uint8)"
    sides = described.height, described.width
    shape = (*sides, 3) if described.format == "uint8-nhwc" else (3, *sides)
    if session.input_type != kind or not _fits(session.input_shape, shape):
        raise ModelError(
            f"{spec.name}: by the manifest an item is {shape} of {kind} ({described.format}); "
            f"the file takes {session.input_shape} of {session.input_type}"
        )
    if isinstance(spec, PoseSpec):
        given = _given(spec)
        if not _fits(session.output_shape, given):
            raise ModelError(
                f"{spec.name}: by the manifest an output is {given} ({spec.output.layout}); the file gives {session.output_shape}"
            )


def _given(spec: PoseSpec) -> tuple[int, ...]:
    count = len(spec.keypoints.names)
    if isinstance(spec.output, KeypointOutput):
        return count, 3
    return count, spec.input.height // spec.output.stride, spec.input.width // spec.output.stride


def _fits(found: Sequence[int | str | None], expected: Sequence[int]) -> bool:
    return len(found) == len(expected) and all(a == b for a, b in zip(found, expected, strict=True) if isinstance(a, int))
