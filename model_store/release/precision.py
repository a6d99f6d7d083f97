"""Whether INT8 pays for what is to ship: measured, on this machine, against what would serve."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from model_store.release.artefacts import prove_int8
from model_store.release.detector_steps import detector_steps
from model_store.release.scoring import score, score_int8, settings_of
from model_store.release.staging import Prepared, stage
from posewire.calibration import Limits, annotated, choose, pictures
from posewire.commands.bench import measure
from posewire.commands.progress import progress
from posewire.commands.quantize import int8
from posewire.errors import DeviceError, ModelError
from posewire.evaluation.annotations import Annotations
from posewire.inference.detector import Detector
from posewire.inference.device import cpu_plan
from posewire.inference.feed import ModelFeed
from posewire.inference.pose import PoseEstimator
from posewire.inference.session import OnnxSession
from posewire.kernels.quantized import write
from posewire.models.quantizing import Coverage, quantize_detector
from posewire.models.specs import DetectorSpec, PoseSpec
from posewire.models.store import ModelStore
from posewire.types import FloatArray, UInt8Array

_CALIBRATED_ON = 128  # people, or pictures of a detector
_ROUNDS = 30
_MOST_LOST = 0.005  # of AP


@dataclass(frozen=True, slots=True)
class _Speed:
    """Ratio of INT8's time to that of what would serve, below 1: INT8 is faster; quartiles of pairs of runs."""

    ratio: float
    low: float
    high: float
    against: str

    def __str__(self) -> str:
        return f"takes {self.ratio:.2f} [{self.low:.2f} {self.high:.2f}] of the time of {self.against}"


def quantized(plain: Prepared, work: Path, say: Callable[[str], None]) -> tuple[Prepared, str]:
    """With INT8 where it pays; and the sentence that says why.

    A pose network's takes the place of its graph; a detector's is served beside it, where the processor is made for it.
    """
    request = plain.request
    if request.other is None:
        return plain, "float32. INT8 was not tried in this release; docs/precision.md says what it cost before."
    spec = ModelStore(plain.store).manifest.get(request.name, request.network.task)
    path = work / "int8.onnx"
    if isinstance(spec, DetectorSpec):
        path.write_bytes(_detector_int8(plain, spec, request.other))
        return _beside(plain, path, work, say)
    path.write_bytes(_pose_int8(plain, spec, request.other))
    return _instead(plain, path, work, say)


def _instead(plain: Prepared, path: Path, work: Path, say: Callable[[str], None]) -> tuple[Prepared, str]:
    request = plain.request
    timed = _speed(path, plain.store / request.files["onnx"], plain.store / request.files["kernels"] if plain.weights.kernels else None)
    if timed.high >= 1:
        say(f"float32: INT8 {timed}")
        return plain, f"float32. INT8 (1x1 convolutions) {timed} on the machine of the release, so its AP was not looked at."
    weights = replace(plain.weights, onnx=path.read_bytes(), kernels=None)
    store = stage(request, work, weights)
    scored = score(store, request.network.task, request.name, request.held_out)
    lost = plain.scored.decisive - scored.decisive
    sentence = f"INT8 (1x1 convolutions) {timed} on the machine of the release and loses {lost:.4f} of AP"
    say(sentence)
    if lost >= _MOST_LOST:
        return plain, f"float32: {sentence}, too much."
    return replace(plain, store=store, weights=weights, scored=scored), f"{sentence}: INT8 ships."


def _beside(plain: Prepared, path: Path, work: Path, say: Callable[[str], None]) -> tuple[Prepared, str]:
    request = plain.request
    int8 = path.read_bytes()
    kernels = write(detector_steps(int8, request.name))
    parity = prove_int8(request.network, int8, kernels)
    say(parity)
    weights = replace(plain.weights, int8=int8, kernels=kernels)
    store = stage(request, work, weights)
    try:
        figure = score_int8(store, request.name, request.held_out)
    except DeviceError as error:
        say(f"float32: {error}")
        return plain, f"float32. INT8 was not tried, for the machine of the release would not serve it: {error}."
    timed = _speed(path, plain.store / request.files["onnx"], None)
    lost = plain.scored.decisive - figure.value
    sentence = f"INT8 {timed} on the machine of the release{_on_kernels(store / request.files['kernels'], path)} and loses {lost:.4f} of AP"
    say(sentence)
    if timed.high >= 1 or lost >= _MOST_LOST:
        return plain, f"float32: {sentence}."
    scored = replace(plain.scored, figures=(*plain.scored.figures, figure))
    return replace(
        plain, store=store, weights=weights, scored=scored
    ), f"{sentence}: it is served where the CPU has VNNI, else float32. {parity}."


def _on_kernels(kernels: Path, int8: Path) -> str:
    """A clause: what Posewire's kernels make of it, where they run it."""
    try:
        return f" (Posewire's kernels {_timed(kernels, int8, 'that')})"
    except ModelError as error:
        return f" (Posewire's kernels were not timed: {error})"


def _pose_int8(plain: Prepared, spec: PoseSpec, people: Annotations) -> bytes:
    """The graph with its 1x1 convolutions in INT8, calibrated on annotated people.

    Raises:
        PosewireError: there are fewer than 16 of them.
    """
    onnx = plain.weights.onnx
    pose = PoseEstimator(spec, OnnxSession(onnx, spec.name, cpu_plan(1, "INT8 is for the CPU")))
    boxes = {picture.path: picture.boxes_xywh for picture in people.pictures if picture.people}
    with progress(_CALIBRATED_ON, "people for INT8") as advance:
        chosen = choose(list(boxes), annotated(boxes), pose, _CALIBRATED_ON, _limits(plain), advance)
    return int8(onnx, spec, chosen, Coverage.POINTWISE, "calibration of INT8")


def _detector_int8(plain: Prepared, spec: DetectorSpec, people: Annotations) -> bytes:
    """The graph in INT8, calibrated on pictures.

    Raises:
        PosewireError: there are fewer than 16 of them.
    """
    onnx = plain.weights.onnx
    detector = Detector(spec, OnnxSession(onnx, spec.name, cpu_plan(1, "INT8 is for the CPU")))
    feed = ModelFeed(spec.input)
    with progress(_CALIBRATED_ON, "calibration of INT8") as advance:

        def inputs() -> Iterator[FloatArray | UInt8Array]:
            for frame in pictures([picture.path for picture in people.pictures], _CALIBRATED_ON, _limits(plain)):
                yield feed([detector.prepare(frame).pixels])
                advance()

        return quantize_detector(onnx, inputs())


def _limits(plain: Prepared) -> Limits:
    settings = settings_of(plain.store, plain.request.network.task, plain.request.name)
    return Limits(settings.max_bytes, settings.max_pixels)


def _speed(int8: Path, onnx: Path, kernels: Path | None) -> _Speed:
    """Time INT8 against what serves on a CPU: the kernels where there are some, else the graph; one thread, one picture."""
    if kernels is None:
        return _timed(int8, onnx, "the compiled float32 graph")
    other = _timed(kernels, int8, "INT8")
    return _Speed(1 / other.ratio, 1 / other.high, 1 / other.low, "Posewire's kernels in float32")


def _timed(model: Path, against: Path, name: str) -> _Speed:
    with progress(_ROUNDS, "speed of INT8") as advance:
        row = measure(model, against, [1], [1], _ROUNDS, advance)[-1]
    return _Speed(row.ratio, row.low, row.high, name)
