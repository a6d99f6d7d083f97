"""The JSON of the Open Inference Protocol, version 2, and its tensors.

Source: https://github.com/kserve/open-inference-protocol, and the binary tensor data extension of Triton.
"""

from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

MODEL: Final = "posewire"
# The version of the tensors below, not of Posewire: it changes if a client would have to change.
VERSION: Final = "1"
EXTENSIONS: Final = ("binary_tensor_data",)

# Before the JSON of a body with binary tensors: the bytes of the JSON.
JSON_LENGTH: Final = "Inference-Header-Content-Length"


class TensorSpec(NamedTuple):
    """Name, datatype and shape of a tensor; -1 is a size that differs from request to request."""

    name: str
    datatype: str
    shape: tuple[int, ...]


INPUTS: Final = (
    TensorSpec("images", "BYTES", (-1,)),
    TensorSpec("boxes", "FP32", (-1, 4)),
    TensorSpec("boxes_count", "INT32", (-1,)),
)


def outputs(keypoints: int) -> tuple[TensorSpec, ...]:
    """Return the output tensors of a pose model with so many keypoints."""
    return (
        TensorSpec("people_count", "INT32", (-1,)),
        TensorSpec("image_size", "INT32", (-1, 2)),
        TensorSpec("image_index", "INT32", (-1,)),
        TensorSpec("boxes", "FP32", (-1, 4)),
        TensorSpec("scores", "FP32", (-1,)),
        TensorSpec("keypoints", "FP32", (-1, keypoints, 3)),
        TensorSpec("people", "BYTES", (-1,)),
    )


class InferParams(BaseModel):
    """The parameters of a request. Clients that know no fractions send them as texts."""

    model_config = ConfigDict(extra="forbid")

    min_detection_score: Annotated[float, Field(ge=0, le=1)] | None = None
    min_keypoint_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_people: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[int, Field(ge=0)] = 0  # microseconds; 0: none of the caller
    binary_data_output: bool = False


class InputParams(BaseModel):
    """The parameters of an input tensor; others, such as a hint of its content, are ignored."""

    binary_data_size: Annotated[int, Field(strict=True, ge=0)] | None = None  # bytes after the JSON; None: the data are in the JSON


class OutputParams(BaseModel):
    """The parameters of a requested output; others are ignored."""

    binary_data: bool | None = None  # None: as `binary_data_output` says


class InputTensor(BaseModel):
    """An input tensor in JSON."""

    name: str
    shape: Annotated[list[Annotated[int, Field(strict=True)]], Field(fail_fast=True)]
    datatype: str
    parameters: InputParams = InputParams()
    data: list[Any] | None = None  # flat, or nested as the shape says


class RequestedOutput(BaseModel):
    """An output tensor that a caller asks for."""

    name: str
    parameters: OutputParams = OutputParams()


class InferRequest(BaseModel):
    """The JSON of an inference request."""

    id: Annotated[str, Field(max_length=256)] = ""
    parameters: InferParams = InferParams()
    inputs: Annotated[list[InputTensor], Field(max_length=len(INPUTS), fail_fast=True)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=16, fail_fast=True)] = []
