"""Write the keypoints of everyone in a folder of images as CSV, one row per keypoint. It needs no service.

    pip install posewire
    python examples/folder_to_csv.py holiday/ > keypoints.csv

A file that is not an image is reported, and the others go on. Coordinates are pixels of the upright image.
"""

import argparse
import csv
import sys
from pathlib import Path

from posewire import PosePipeline, ServiceError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
COLUMNS = ["file", "person", "person_score", "keypoint", "x", "y", "score"]


def main() -> int:
    """Estimate each image, write its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    files = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        parser.error(f"{options.folder} has no image")
    sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr] # it is a text file here
    writer = csv.writer(sys.stdout)
    writer.writerow(COLUMNS)
    pipeline = PosePipeline.load()
    names = pipeline.pose.spec.keypoints.names
    bad = 0
    for path in files:
        try:
            people = pipeline(path).people
        except ServiceError as error:  # the file is no image, or too large
            print(f"{path}: {error}", file=sys.stderr)
            bad += 1
            continue
        file = path.relative_to(options.folder).as_posix()
        for number, person in enumerate(people):
            for name, (x, y), score in zip(names, person.keypoints.xy.tolist(), person.keypoints.scores.tolist(), strict=True):
                writer.writerow([file, number, f"{person.score:.4f}", name, f"{x:.2f}", f"{y:.2f}", f"{score:.4f}"])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
