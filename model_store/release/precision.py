"""Whether INT8 pays for what is to ship: measured, on this machine, against what would serve."""

from dataclasses import dataclass
from pathlib import Path

from posewire.calibration import Limits, annotated, choose
from posewire.commands.bench import measure
from posewire.commands.progress import progress
from posewire.commands.quantize import int8
from posewire.evaluation.annotations import Annotations
from posewire.inference.device import cpu_plan
from posewire.inference.pose import PoseEstimator
from posewire.inference.session import OnnxSession
from posewire.models.quantizing import Coverage
from posewire.models.specs import PoseSpec

_PEOPLE = 128
_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Speed:
    """Ratio of INT8's time to that of what would serve, below 1: INT8 is faster; quartiles of pairs of runs."""

    ratio: float
    low: float
    high: float
    against: str

    def __str__(self) -> str:
        return f"takes {self.ratio:.2f} [{self.low:.2f} {self.high:.2f}] of the time of {self.against}"


def as_int8(onnx: bytes, spec: PoseSpec, people: Annotations, limits: Limits) -> bytes:
    """The graph with its 1x1 convolutions in INT8, calibrated on annotated people.

    Raises:
        PosewireError: there are fewer than 16 of them.
    """
    pose = PoseEstimator(spec, OnnxSession(onnx, spec.name, cpu_plan(1, "INT8 is for the CPU")))
    boxes = {picture.path: picture.boxes_xywh for picture in people.pictures if picture.people}
    with progress(_PEOPLE, "people for INT8") as advance:
        chosen = choose(list(boxes), annotated(boxes), pose, _PEOPLE, limits, advance)
    return int8(onnx, spec, chosen, Coverage.POINTWISE, "calibration of INT8")


def speed(int8: Path, onnx: Path, kernels: Path | None) -> Speed:
    """Time INT8 against what serves on a CPU: the kernels where there are some, else the graph; one thread, one picture."""
    with progress(_ROUNDS, "speed of INT8") as advance:
        if kernels is None:
            row = measure(int8, onnx, [1], [1], _ROUNDS, advance)[-1]
            return Speed(row.ratio, row.low, row.high, "the compiled float32 graph")
        row = measure(kernels, int8, [1], [1], _ROUNDS, advance)[-1]
        return Speed(1 / row.ratio, 1 / row.high, 1 / row.low, "Posewire's kernels in float32")
