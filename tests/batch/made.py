"""Sources of batches, made for the tests, and outcomes without models."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posewire.batch.items import Ended, Failure, Item, Key, Outcome
from posewire.batch.reading import ReadingOptions, read_items
from posewire.batch.run import Run
from posewire.batch.sources import Source, kind_of
from posewire.types import Keypoints, Pose, PoseResult
from tests.sample_images import astronaut, encode

OPTIONS = ReadingOptions(column=None, fps=None, max_bytes=1_000_000, max_pixels=10_000_000)


def small(size: int = 96) -> bytes:
    """A JPEG of one person."""
    return encode(np.asarray(cv2.resize(astronaut(), (size, size)), np.uint8))


def write_tar(path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    """A tar file; a name may be given twice."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload] # any mode of writing
        for name, content in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_parquet(path: Path, columns: Mapping[str, list[object]]) -> Path:
    """A Parquet file."""
    pq.write_table(pa.table(dict(columns)), path)
    return path


def source_of(path: Path) -> Source:
    """A file as a source."""
    return Source(str(path), kind_of(str(path)) or "image", path.stat().st_size)


def read(path: Path, options: ReadingOptions = OPTIONS, done: Iterable[bytes] = ()) -> tuple[list[Item], list[Ended]]:
    """The images of a source, and its ends."""
    reads = list(read_items(source_of(path), options, set(done)))
    return [one for one in reads if isinstance(one, Item)], [one for one in reads if isinstance(one, Ended)]


def names_of(items: Iterable[Item]) -> list[str]:
    """The names of images in their source."""
    return [item.key.image for item in items]


def failure_of(item: Item) -> Failure:
    """Why an image cannot be read; it must be so."""
    assert isinstance(item.content, Failure), item
    return item.content


def a_run(**changes: object) -> Run:
    """A run with made models."""
    values: dict[str, object] = {
        "layout": 1,
        "version": "1.2.3",
        "detector": "finder",
        "detector_sha256": "a" * 64,
        "pose": "poser",
        "pose_sha256": "b" * 64,
        "keypoints": ("nose", "tail"),
        "min_detection_score": 0.35,
        "max_people": 50,
        "decoding": "dark",
        "flip_test": False,
        "max_bytes": 1_000_000,
        "max_pixels": 10_000_000,
        "form": "parquet",
        "column": None,
        "fps": None,
    }
    return Run(**(values | changes))  # type: ignore[arg-type]


def a_result(people: int, width: int = 40, height: int = 30) -> PoseResult:
    """A result with people who have two keypoints."""
    xy = np.array([[1.23456, 2.0], [3.0, 4.5]], np.float32)
    pose = Pose(np.array([0.5, 1.0, 20.0, 10.0], np.float32), 0.75, Keypoints(xy, np.array([0.91234, 0.25], np.float32)))
    return PoseResult(width, height, (pose,) * people)


def an_outcome(image: str, people: int = 1, source: str = "/a.tar") -> Outcome:
    """What came of an image that worked."""
    return Outcome(Key(source, image), a_result(people))


def a_failure(image: str, source: str = "/a.tar") -> Outcome:
    """What came of an image that did not."""
    return Outcome(Key(source, image), Failure("bad-picture", "it is no image"))
