"""`python -m loadtests.shrinking`: how long an image takes into the detector's letterbox, by the kernels and by OpenCV, in turn."""

import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from loadtests.outcomes import ratio
from posewire.imaging.resize import area_resize
from posewire.types import UInt8Array

_SIDE = 320
_ROUNDS = 40
_SIZES = ((512, 512), (427, 640), (480, 640), (720, 1280), (1080, 1920), (3000, 4000))


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Print a row of a Markdown table a size."""
    cv2.setNumThreads(1)
    print("| image | ms, kernels / OpenCV | ratio |\n|---|---|---|")
    for height, width in _SIZES:
        pixels: UInt8Array = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        scale = _SIDE / max(height, width)
        rows, columns = round(height * scale), round(width * scale)
        out = np.empty((rows, columns, 3), np.uint8)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(_ROUNDS):
            ours.append(_timed(partial(area_resize, pixels, rows, columns, out)))
            theirs.append(_timed(partial(cv2.resize, pixels, (columns, rows), interpolation=cv2.INTER_AREA)))
        found = ratio(ours, theirs)
        milliseconds = f"{1000 * float(np.median(ours)):.2f} / {1000 * float(np.median(theirs)):.2f}"
        print(f"| {width}x{height} | {milliseconds} | **{found['median']:.2f}** [{found['low']:.2f} {found['high']:.2f}] |")


if __name__ == "__main__":
    main()
