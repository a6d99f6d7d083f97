"""A detector in INT8 as the kernels take it: its steps and their weights, as a safetensors file.

A map's byte b stands for b times the map's scale. Every convolution ends in a rectifier, so nothing is negative and a map needs no
zero point. The file's metadata hold the steps, so that it needs no other description, and no ONNX to read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from posewire.errors import ModelError
from posewire.kernels.files import Array, read_file
from posewire.models.litehrnet.safetensors import read_metadata, write_safetensors
from posewire.models.litehrnet.tensors import MalformedError

BOX: Final = 5  # numbers of a cell: a score's logit, the centre's offset, the logarithms of the sides

_FORMAT: Final = "posewire-kernels-int8-1"
_LANES: Final = 16  # channels of every map come in multiples of it
_COLOURS: Final = 3

Scale: TypeAlias = Annotated[FiniteFloat, Field(gt=0)]


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Step):
    """A 3x3 convolution of the picture to half its size, in float32: `OUT.weight` (O, 3, 3, 3) and `OUT.bias` (O,) float32."""

    kind: Literal["entry"] = "entry"
    out: str
    scale: Scale


class Convolution(_Step):
    """A 1x1 or 3x3 convolution: `OUT.weight` (O, I, k, k) int8, `OUT.bias` (O,) int32 and `OUT.factor` (O,) float32.

    A sum times its factor is the output's byte.
    """

    kind: Literal["convolution"] = "convolution"
    source: str
    out: str
    stride: Literal[1, 2]
    scale: Scale


class Sum(_Step):
    """Of two maps."""

    kind: Literal["sum"] = "sum"
    sources: tuple[str, str]
    out: str
    scale: Scale


class Join(_Step):
    """Maps' channels one after the other."""

    kind: Literal["join"] = "join"
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    out: str
    scale: Scale


class Maxima(_Step):
    """Of 5x5 pixels around each."""

    kind: Literal["maxima"] = "maxima"
    source: str
    out: str


class Double(_Step):
    """Every pixel as 2x2."""

    kind: Literal["double"] = "double"
    source: str
    out: str


class Boxes(_Step):
    """A 1x1 convolution of every source to what its cells say of boxes, in float32.

    `OUT.N.weight` (5, I) and `OUT.N.bias` (5,) float32 are of source N, whose cells are `strides[N]` picture pixels wide.
    """

    kind: Literal["boxes"] = "boxes"
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    strides: tuple[Annotated[int, Field(gt=0)], ...]
    out: str


Step: TypeAlias = Annotated[Entry | Convolution | Sum | Join | Maxima | Double | Boxes, Field(discriminator="kind")]
_STEPS: Final = TypeAdapter(tuple[Step, ...])


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A detector: the first step is its `Entry`, the last its `Boxes`, and no map is used before it is made."""

    steps: tuple[Step, ...]
    state: Mapping[str, Array]


def write(network: Quantized) -> bytes:
    """The safetensors file of the network, the same bytes for the same network."""
    return write_safetensors(network.state, {"format": _FORMAT, "steps": _STEPS.dump_json(network.steps).decode()})


def is_quantized(data: bytes) -> bool:
    """Whether a file says that `write` made it."""
    try:
        return read_metadata(data).get("format") == _FORMAT
    except MalformedError:
        return False


def read(data: bytes, name: str) -> Quantized:
    """A network from a file that `write` made.

    Args:
        data: its bytes.
        name: of the model, for errors.

    Raises:
        ModelError: the bytes are damaged, of another format, or no network that the kernels can run.
    """
    told, state = read_file(data, name)
    if told.get("format") != _FORMAT:
        raise ModelError(f"{name}: not a detector's weights for the kernels; a release makes them (docs/release.md)")
    try:
        network = Quantized(_STEPS.validate_json(told.get("steps", "")), state)
    except ValidationError as fault:
        raise ModelError(f"{name}: the steps of the weights for the kernels cannot be read: {fault.errors()[0]['msg']}") from None
    require_fit(network, name)
    return network


def sources(step: Step) -> tuple[str, ...]:
    """Names of the maps that a step reads."""
    match step:
        case Convolution() | Maxima() | Double():
            return (step.source,)
        case Sum() | Join() | Boxes():
            return step.sources
        case Entry():
            return ()


def require_fit(network: Quantized, name: str) -> None:
    """The steps fit each other and the weights.

    Raises:
        ModelError: they do not, or the kernels have not what a step needs; says which.
    """
    channels: dict[str, int] = {}
    expected: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {}
    ends = [number for number, step in enumerate(network.steps) if isinstance(step, Entry | Boxes)]
    if len(network.steps) < 2 or ends != [0, len(network.steps) - 1] or not isinstance(network.steps[0], Entry):
        raise ModelError(f"{name}: the network does not go from a picture to boxes")
    for step in network.steps:
        if missing := [source for source in sources(step) if source not in channels]:
            raise ModelError(f"{name}: step {step.out} needs {missing[0]}, which is not made before it")
        given = [channels[source] for source in sources(step)]
        if step.out in channels or (isinstance(step, Sum) and given[0] != given[1]):
            raise ModelError(f"{name}: step {step.out} does not fit those before it")
        if isinstance(step, Boxes):
            if len(step.strides) != len(given):
                raise ModelError(f"{name}: {len(given)} maps of boxes have {len(step.strides)} strides")
            for index, inputs in enumerate(given):
                expected |= {f"{step.out}.{index}.weight": ((BOX, inputs), np.float32), f"{step.out}.{index}.bias": ((BOX,), np.float32)}
            continue
        channels[step.out] = _outputs(network, step, given, expected)
        if channels[step.out] % _LANES or channels[step.out] == 0 or (isinstance(step, Entry) and channels[step.out] != _LANES):
            raise ModelError(f"{name}: step {step.out} makes {channels[step.out]} channels, which the kernels do not run")
    if {key: (array.shape, array.dtype.type) for key, array in network.state.items()} != expected:
        raise ModelError(f"{name}: the weights for the kernels are not those of its steps")


def _outputs(network: Quantized, step: Step, given: list[int], expected: dict[str, tuple[tuple[int, ...], type[np.generic]]]) -> int:
    """Channels of what a step makes; the weights that it needs are added to those that are expected."""
    if not isinstance(step, Entry | Convolution):
        return sum(given) if isinstance(step, Join) else given[0]
    shape = network.state[f"{step.out}.weight"].shape if f"{step.out}.weight" in network.state else ()
    outputs = shape[0] if shape else 0
    if isinstance(step, Entry):
        expected |= {f"{step.out}.weight": ((outputs, _COLOURS, 3, 3), np.float32), f"{step.out}.bias": ((outputs,), np.float32)}
        return outputs
    side = 3 if shape[-1:] == (3,) else 1
    expected |= {
        f"{step.out}.weight": ((outputs, given[0], side, side), np.int8),
        f"{step.out}.bias": ((outputs,), np.int32),
        f"{step.out}.factor": ((outputs,), np.float32),
    }
    return outputs
