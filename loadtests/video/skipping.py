"""The cost of a frame with the detector only where it is needed, as a ratio to every frame, and the people that it loses."""

import random
import time
from pathlib import Path

import numpy as np

from loadtests.video.films import read, session_of, started_engine
from loadtests.video.labels import LAST_FRAME, people_in
from loadtests.video.matching import score
from posewire.pipeline.tracking.matching import assign, box_iou
from posewire.types import Pose

_BLOCK = 10  # frames that are timed together
_SAME_IOU = 0.5


async def measure(video: Path) -> None:
    """Print ratios over blocks of frames, all sessions side by side in one run, in a random order in every block."""
    film = read(video, 160)
    every = {"every frame": 1, "every frame again (noise)": 1, "at most 5 apart": 5, "at most 10 apart": 10}
    wall: dict[str, list[float]] = {name: [] for name in every}
    looks: dict[str, int] = dict.fromkeys(every, 0)
    answers: dict[str, list[tuple[Pose, ...]]] = {name: [] for name in every}
    async with started_engine() as engine:
        sessions = {name: session_of(engine, detect_every=n, smooth=True) for name, n in every.items()}
        for start in range(0, len(film), _BLOCK):
            for name in random.sample(list(every), len(every)):
                began = time.perf_counter()
                for frame in film[start : start + _BLOCK]:
                    result = await sessions[name].step(frame.frame, frame.t_seconds)
                    looks[name] += result.timings.detect > 0
                    answers[name].append(result.people)
                wall[name].append(time.perf_counter() - began)
    base, labels = np.array(wall["every frame"]), [people_in(i) for i in range(LAST_FRAME + 1)]
    for name in every:
        low, ratio, high = np.percentile(np.array(wall[name]) / base, [25, 50, 75])
        recall = score(answers[name][: LAST_FRAME + 1], labels).recall
        print(
            f"{name}: {np.median(wall[name]) / _BLOCK * 1000:.1f} ms a frame, ratio {ratio:.2f} [{low:.2f} {high:.2f}], "
            f"the detector on {looks[name] / len(film):.0%} of {len(film)} frames, "
            f"recall of labels {recall:.3f}, of the people of every frame {_kept(answers[name], answers['every frame']):.3f}"
        )


def _kept(answers: list[tuple[Pose, ...]], reference: list[tuple[Pose, ...]]) -> float:
    """The share of the reference's people who were answered too."""
    found = total = 0
    for people, expected in zip(answers, reference, strict=True):
        boxes = [np.array([p.box_xywh for p in side], np.float32).reshape(-1, 4) for side in (expected, people)]
        found += len(assign(box_iou(*boxes), _SAME_IOU))
        total += len(expected)
    return found / total
