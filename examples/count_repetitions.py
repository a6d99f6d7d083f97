"""Count squats or arm raises, in front of a camera or in a video file. It needs no service.

    pip install posewire
    python examples/count_repetitions.py squats.mp4
    python examples/count_repetitions.py 0 --exercise arm-raises   # camera 0, until Ctrl-C

A repetition is a swing of an angle: of the knee for squats, of the shoulder for arm raises. The angle must pass one threshold
on its way there and another on its way back (hysteresis). So an angle that trembles at one threshold is not counted again and again.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from posewire import Pose, PosePipeline

MIN_SCORE = 0.3  # of the three keypoints of an angle


@dataclass(frozen=True)
class Exercise:
    """The angle at the middle one of three keypoints, and its thresholds in degrees."""

    keypoints: tuple[str, str, str]
    there: float  # the angle has swung when it passes this
    back: float  # and the repetition counts when it passes this on its way back


EXERCISES = {
    "squats": Exercise(("hip", "knee", "ankle"), there=110, back=150),
    "arm-raises": Exercise(("hip", "shoulder", "elbow"), there=120, back=50),
}


class Counter:
    """Counts the repetitions of one person."""

    def __init__(self, exercise: Exercise) -> None:
        self._exercise = exercise
        self._swung = False
        self.count = 0

    def update(self, angle: float) -> bool:
        """Take the next angle, degrees; return True if it completes a repetition."""
        there, back = self._exercise.there, self._exercise.back
        sign = 1 if there > back else -1
        if not self._swung:
            self._swung = sign * angle >= sign * there
            return False
        if sign * angle > sign * back:
            return False
        self._swung = False
        self.count += 1
        return True


def angle_of(person: Pose, exercise: Exercise, names: Sequence[str]) -> float | None:
    """Return the mean angle of both sides in degrees, 0..180; None if the model is not sure of the keypoints of either."""
    angles = []
    for side in ("left", "right"):
        indices = [names.index(f"{side}_{name}") for name in exercise.keypoints]
        if person.keypoints.scores[indices].min() >= MIN_SCORE:
            first, middle, last = person.keypoints.xy[indices].astype(float)
            a, b = first - middle, last - middle
            angles.append(np.degrees(np.arctan2(abs(a[0] * b[1] - a[1] * b[0]), a @ b)))
    return float(np.mean(angles)) if angles else None


def frames(video: cv2.VideoCapture, *, live: bool) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    """Yield each frame with its time in seconds: by the clock for a camera, by the frame rate for a file.

    A frame is (H, W, 3) uint8, BGR.
    """
    rate, started, number = video.get(cv2.CAP_PROP_FPS) or 25.0, time.monotonic(), 0
    while True:
        read, image = video.read()
        if not read:
            return
        yield time.monotonic() - started if live else number / rate, np.asarray(image, np.uint8)
        number += 1


def main() -> int:
    """Read, track, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a video file, or the number of a camera")
    parser.add_argument("--exercise", choices=sorted(EXERCISES), default="squats")
    options = parser.parse_args()
    live, exercise = options.source.isdecimal(), EXERCISES[options.exercise]
    video = cv2.VideoCapture(int(options.source)) if live else cv2.VideoCapture(options.source)
    if not video.isOpened():
        parser.error(f"{options.source} cannot be opened as a video or a camera")
    counters: defaultdict[int, Counter] = defaultdict(lambda: Counter(exercise))
    pipeline = PosePipeline.load()
    names, tracker = pipeline.pose.spec.keypoints.names, pipeline.tracker()
    try:
        for t_seconds, image in frames(video, live=live):
            for person in tracker(image, t_seconds, colour="BGR").people:
                angle = angle_of(person, exercise, names)
                if person.track_id is not None and angle is not None and counters[person.track_id].update(angle):
                    print(f"{t_seconds:.1f} s: person {person.track_id}, {counters[person.track_id].count}", flush=True)
    except KeyboardInterrupt:
        pass
    print(f"{options.exercise}: {sum(counter.count for counter in counters.values())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
