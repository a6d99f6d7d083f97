"""The networks that are compared, each in the runtimes that can run it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.models.accuracy import People
from loadtests.models.engines import Run, cost, detector, kernels, lite_rt, onnx_runtime, open_vino
from loadtests.models.networks import BlazePose, LiteHrNet, LiteHrNetPixels, MoveNet, Network
from posewire.errors import PosewireError
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.registry.specs import DetectorSpec, HeatmapOutput, ModelSpec, PoseSpec
from posewire.registry.store import ModelStore

# Of BlazePose's outputs: landmarks and heatmaps. The others are a flag, a mask of the person, and landmarks in metres.
_POSE_OUTPUTS = (0, 3)
_YOLOX = "yolox-nano"
_SECOND_LOOK = "AP, second look"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network in a runtime."""

    name: str
    runtime: str
    side: str  # of the input: height x width, pixels
    cost: tuple[float, float]  # as `engines.cost` counts
    run: Callable[[], object]  # one item through the network: what is timed
    score: Callable[[], Mapping[str, float | None]]  # COCO's figures of it
    ours: bool = False  # made by this project


@dataclass(frozen=True, slots=True)
class Peers:
    """Files of networks that no store has; None: leave them out."""

    plain: Path | None  # another ONNX export of our default pose model
    movenet: Path | None  # MoveNet Thunder, single pose: OpenVINO's .xml
    blazepose: Path | None  # folder with MediaPipe's pose_landmark_{lite,full,heavy}.tflite
    yolox: Path | None  # YOLOX-Nano, ONNX


def pose_networks(stores: list[ModelStore], peers: Peers, people: People) -> Iterator[Candidate]:
    """The default pose model in every runtime, then the other models of the stores in the fastest, then the peers.

    Args:
        stores: the first has the defaults; of models with the same name, the first counts.
        peers: networks of others.
        people: to score on.

    Raises:
        PosewireError: a file is missing, damaged or not what its manifest says.
    """
    make = partial(_pose, people)
    default = stores[0].manifest.default("pose")
    for store, spec in _models(stores):
        if not isinstance(spec, PoseSpec) or spec.keypoints is not KEYPOINT_SETS["coco-17"] or not isinstance(spec.output, HeatmapOutput):
            continue
        path, side, ours, network = store.path(spec), _side(spec), not store.is_installed(spec), LiteHrNet(spec)
        if spec.kernels:
            run = kernels(spec, store.verified_bytes(spec, spec.kernels))
            yield make(spec.name, "Posewire kernels", side, path, LiteHrNetPixels(spec), run, ours)
        if spec.name == default.name or not spec.kernels:
            yield make(spec.name, "ONNX Runtime", side, path, network, onnx_runtime(path), ours)
        if spec.name == default.name:
            for precision in ("f32", "bf16"):
                yield make(spec.name, f"OpenVINO {precision}", side, path, network, open_vino(path, precision), ours)
    if peers.plain:
        network, side = LiteHrNet(default), _side(default)
        yield make("plain export", "ONNX Runtime", side, peers.plain, network, onnx_runtime(peers.plain), True)
        for precision in ("f32", "bf16"):
            yield make("plain export", f"OpenVINO {precision}", side, peers.plain, network, open_vino(peers.plain, precision), True)
    if peers.movenet:
        for precision in ("f32", "bf16"):
            run = open_vino(peers.movenet, precision)
            yield make("MoveNet Thunder", f"OpenVINO {precision}", "256x256", peers.movenet, MoveNet(), run)
    for size in ("lite", "full", "heavy") if peers.blazepose else ():
        assert peers.blazepose
        yield from _blazepose(people, f"BlazePose {size}", peers.blazepose / f"pose_landmark_{size}.tflite")


def detectors(stores: list[ModelStore], peers: Peers, people: People) -> Iterator[Candidate]:
    """The default detector, then the others of the stores, then YOLOX-Nano; as the service runs them.

    The arguments and errors are those of `pose_networks`.
    """
    for store, spec in _models(stores):
        if isinstance(spec, DetectorSpec):
            yield _detector(people, spec, store.path(spec), store.verified_bytes(spec), not store.is_installed(spec))
    if peers.yolox:
        manifest = stores[0].manifest
        spec = manifest.default("detector").model_copy(update=dict(manifest.download(_YOLOX).model))
        yield _detector(people, spec, peers.yolox, peers.yolox.read_bytes(), False)


def _models(stores: list[ModelStore]) -> Iterator[tuple[ModelStore, ModelSpec]]:
    """Every model once by its name; the defaults of the first store first."""
    defaults = stores[0].manifest.defaults
    found: dict[str, tuple[ModelStore, ModelSpec]] = {}
    for store in stores:
        for spec in store.manifest.models:
            found.setdefault(spec.name, (store, spec))
    return iter(sorted(found.values(), key=lambda pair: pair[1].name not in (defaults.pose, defaults.detector)))


def _side(spec: ModelSpec) -> str:
    return f"{spec.input.height}x{spec.input.width}"


def _pose(people: People, name: str, runtime: str, side: str, path: Path, network: Network, run: Run, ours: bool = False) -> Candidate:
    frame, box = people.first()
    tensor = network.tensor(frame, network.affine(box))

    def score() -> Mapping[str, float | None]:
        return {**people.score(network, run), _SECOND_LOOK: None}

    return Candidate(name, runtime, side, cost(path), partial(run, tensor), score, ours)


def _blazepose(people: People, name: str, path: Path) -> Iterator[Candidate]:
    if not path.is_file():
        raise PosewireError(f"{path} is not there")
    network = BlazePose()
    frame, box = people.first()
    tensor = network.tensor(frame, network.affine(box))

    def score(run: Run) -> Mapping[str, float | None]:
        return {**people.score(network, run), _SECOND_LOOK: people.score(network, run, looks=2)["AP"]}

    def make(runtime: str, run: Run, size: tuple[float, float]) -> Candidate:
        return Candidate(name, runtime, "256x256", size, partial(run, tensor), partial(score, run))

    yield make("LiteRT", lite_rt(path, _POSE_OUTPUTS), cost(path))
    for precision in ("f32", "bf16"):
        yield make(f"OpenVINO {precision}", open_vino(path, precision, _POSE_OUTPUTS), cost(path, _POSE_OUTPUTS))


def _detector(people: People, spec: DetectorSpec, path: Path, model: bytes, ours: bool) -> Candidate:
    opened = detector(spec, model)
    frame, _ = people.first()
    pixels = opened.preprocess(frame).pixels
    size = cost(path, sides=(spec.input.height, spec.input.width))
    return Candidate(
        spec.name, "ONNX Runtime", _side(spec), size, partial(opened.infer, [pixels]), partial(people.score_boxes, opened), ours
    )
