"""`python -m loadtests.models`: the table of peers. See README.md."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.models.accuracy import People
from loadtests.models.engines import Run, cost, kernels, lite_rt, onnx_runtime, open_vino
from loadtests.models.networks import BlazePose, LiteHrNet, LiteHrNetPixels, MoveNet, Network
from loadtests.models.timing import Timing, race
from posewire.errors import PosewireError
from posewire.models.store import ModelStore

# Of BlazePose's outputs: landmarks and heatmaps. The others are a flag, a mask of the person, and landmarks in metres.
_POSE_OUTPUTS = (0, 3)
_HEAD = "| network | runtime | input | MMACs | M parameters | ms | times the baseline [quartiles] | AP | AP50 | AR | AP, second look |"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network in a runtime."""

    name: str
    runtime: str
    side: str  # of the input: height x width, pixels
    network: Network
    run: Run
    cost: tuple[float, float]  # as `engines.cost` counts


def main() -> int:
    """Print the table; 1 and one line when something is missing."""
    options = _options()
    try:
        for path in (options.data / "person_keypoints.json", options.movenet, options.plain, options.blazepose):
            if path is not None and not path.exists():
                raise PosewireError(f"{path} is not there")
        candidates = list(_candidates(options))
        people = People(options.data)
    except PosewireError as error:
        print(f"loadtests.models: {error}", file=sys.stderr)
        return 1
    frame, box = people.first()
    tensors = [c.network.tensor(frame, c.network.affine(box)) for c in candidates]
    runs = {f"{c.name} {c.runtime}": partial(c.run, tensor) for c, tensor in zip(candidates, tensors, strict=True)}
    timings = race(runs, options.rounds)
    print(f"{options.rounds} rounds, {len(people)} people\n\n{_HEAD}\n{'|---' * _HEAD.count(' |')}|")
    for candidate, timing in zip(candidates, timings.values(), strict=True):
        print(_line(candidate, timing, people), flush=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtests.models", description="Time and score pose networks beside ours.")
    parser.add_argument("data", type=Path, help="folder with images/ and person_keypoints.json, in COCO's format")
    parser.add_argument("--plain", type=Path, help="a plain ONNX export of our default pose model")
    parser.add_argument("--movenet", type=Path, help="MoveNet Thunder, single pose: OpenVINO's .xml")
    parser.add_argument("--blazepose", type=Path, help="folder with MediaPipe's pose_landmark_{lite,full,heavy}.tflite")
    parser.add_argument("--rounds", type=int, default=200)
    return parser.parse_args()


def _candidates(options: argparse.Namespace) -> Iterator[Candidate]:
    store = ModelStore()
    spec = store.manifest.default("pose")
    ours, path, side = LiteHrNet(spec), store.path(spec), f"{spec.input.height}x{spec.input.width}"
    if spec.kernels:
        weights = store.verified_bytes(spec, spec.kernels)
        on_kernels = kernels(spec, weights)
        yield Candidate(spec.name, "Posewire kernels", side, LiteHrNetPixels(spec), on_kernels, cost(path))
    yield Candidate(spec.name, "ONNX Runtime", side, ours, onnx_runtime(path), cost(path))
    for precision in ("f32", "bf16"):
        yield Candidate(spec.name, f"OpenVINO {precision}", side, ours, open_vino(path, precision), cost(path))
    if options.plain:
        yield Candidate("plain export", "ONNX Runtime", side, ours, onnx_runtime(options.plain), cost(options.plain))
        for precision in ("f32", "bf16"):
            run = open_vino(options.plain, precision)
            yield Candidate("plain export", f"OpenVINO {precision}", side, ours, run, cost(options.plain))
    if options.movenet:
        for precision in ("f32", "bf16"):
            run = open_vino(options.movenet, precision)
            yield Candidate("MoveNet Thunder", f"OpenVINO {precision}", "256x256", MoveNet(), run, cost(options.movenet))
    for size in ("lite", "full", "heavy") if options.blazepose else ():
        yield from _blazepose(f"BlazePose {size}", options.blazepose / f"pose_landmark_{size}.tflite")


def _blazepose(name: str, path: Path) -> Iterator[Candidate]:
    if not path.is_file():
        raise PosewireError(f"{path} is not there")
    make = partial(Candidate, name, side="256x256", network=BlazePose())
    yield make(runtime="LiteRT", run=lite_rt(path, _POSE_OUTPUTS), cost=cost(path))
    for precision in ("f32", "bf16"):
        yield make(runtime=f"OpenVINO {precision}", run=open_vino(path, precision, _POSE_OUTPUTS), cost=cost(path, _POSE_OUTPUTS))


def _line(candidate: Candidate, timing: Timing, people: People) -> str:
    scores = people.score(candidate.network, candidate.run)
    second = ""
    if isinstance(candidate.network, BlazePose):
        second = f"{people.score(candidate.network, candidate.run, looks=2)['AP']:.3f}"
    macs, parameters = candidate.cost
    cells = [
        *(candidate.name, candidate.runtime, candidate.side, f"{macs:.0f}", f"{parameters:.1f}", f"{timing.ms:.2f}"),
        f"{timing.ratio:.2f} [{timing.low:.2f} {timing.high:.2f}]",
        *(f"{scores[key]:.3f}" for key in ("AP", "AP50", "AR")),
        second,
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
