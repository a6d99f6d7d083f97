"""`python -m loadtests.models`: the tables of networks beside ours, and a plot. See README.md."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests.models import candidates
from loadtests.models.accuracy import People
from loadtests.models.candidates import Candidate, Peers
from loadtests.models.results import Comparison, Measured, draw, page
from loadtests.models.timing import race
from loadtests.report import machine
from posewire.config import load_settings
from posewire.errors import PosewireError
from posewire.files import make_folder
from posewire.registry.store import ModelStore, open_store

_NAME = "accuracy-speed"  # of the page and the plot


def main() -> int:
    """Print the tables; 1 and one line when something is missing."""
    options = _options()
    peers = Peers(options.plain, options.movenet, options.blazepose, options.yolox)
    where = machine()
    try:
        for path in (options.data / "person_keypoints.json", options.movenet, options.plain, options.blazepose, options.yolox):
            if path is not None and not path.exists():
                raise PosewireError(f"{path} is not there")
        stores = [open_store(load_settings()), *map(ModelStore, options.store)]
        people = People(options.data)
        tasks = {
            "Pose networks": ("keypoint AP, annotated boxes", list(candidates.pose_networks(stores, peers, people))),
            "Person detectors": ("person box AP", list(candidates.detectors(stores, peers, people))),
        }
        if options.out:
            make_folder(options.out)
    except PosewireError as error:
        print(f"loadtests.models: {error}", file=sys.stderr)
        return 1
    comparisons = [Comparison(title, score, list(_measure(found, options.rounds))) for title, (score, found) in tasks.items()]
    about = [
        f"{where['when'][:10]}, commit {where['commit']}, {where['cores']} cores of {where['cpu']}, ONNX Runtime {where['onnxruntime']}; "
        f"one thread, one item at a time; {options.rounds} rounds, each of which runs all networks of a table once in a random order. "
        f"AP on {people.images} images with {len(people)} people. [How it is measured](../loadtests/models/README.md).",
    ]
    text = page(comparisons, about, f"{_NAME}.png")
    print(text)
    if options.out:
        draw(comparisons, options.out / f"{_NAME}.png")
        (options.out / f"{_NAME}.md").write_text(text, encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtests.models", description="Time and score pose networks and person detectors beside ours.")
    parser.add_argument("data", type=Path, help="folder with images/ and person_keypoints.json, in COCO's format")
    parser.add_argument("--plain", type=Path, help="a plain ONNX export of our default pose model")
    parser.add_argument("--movenet", type=Path, help="MoveNet Thunder, single pose: OpenVINO's .xml")
    parser.add_argument("--blazepose", type=Path, help="folder with MediaPipe's pose_landmark_{lite,full,heavy}.tflite")
    parser.add_argument("--yolox", type=Path, help="YOLOX-Nano: ONNX, as Megvii publishes it")
    parser.add_argument("--store", type=Path, action="append", default=[], help="another model store; may be repeated")
    parser.add_argument("--out", type=Path, help=f"folder for {_NAME}.md and {_NAME}.png")
    parser.add_argument("--rounds", type=int, default=200)
    return parser.parse_args()


def _measure(found: Sequence[Candidate], rounds: int) -> Iterator[Measured]:
    timings = race({f"{c.name} {c.runtime}": c.run for c in found}, rounds)
    for candidate, timing in zip(found, timings.values(), strict=True):
        scores = candidate.score()
        others = {name: scores[name] for name in ("AP50", "AR", "AP, second look") if name in scores}
        macs, parameters = candidate.cost
        ap = scores["AP"]
        assert ap is not None
        yield Measured(candidate.name, candidate.runtime, candidate.side, macs, parameters, timing, ap, others, candidate.ours)


if __name__ == "__main__":
    sys.exit(main())
