"""The frames of videos as images."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from posewire.batch.items import Failure, Item, Key
from posewire.batch.places import is_remote, local_path, open_file
from posewire.batch.sources import Source
from posewire.errors import ServiceError
from posewire.video.reading import VideoReader

_EARLY: Final = 1e-6  # of a frame: times are sums of fractions


def video_items(source: Source, fps: float | None, max_pixels: int) -> Iterator[Item]:
    """Yield the frames of a video; one that breaks in the middle fails after the frames before.

    Args:
        source: of the kind "video".
        fps: the first frame of each 1/fps seconds is taken; None: all are.
        max_pixels: limit of pixels of one frame.

    Raises:
        Unreadable: the file cannot be opened.
        NotInstalled: PyAV is not installed.
    """
    with _local(source) as path:
        try:
            with VideoReader(path, max_pixels=max_pixels) as reader:
                weight = source.bytes / (reader.info.frames or 1_000)
                passed, last = 0, -1
                for frame in reader:
                    passed += 1
                    slot = frame.index if fps is None else int(frame.t_seconds * fps + _EARLY)
                    if slot > last:
                        yield Item(Key(source.name, source.image, frame.index), frame.frame, weight * passed, frame.t_seconds * 1000)
                        passed, last = 0, slot
        except ServiceError as error:
            if error.slug == "not-installed":
                raise
            yield Item(Key(source.name, source.image), Failure(error.slug, error.detail), 0.0)


@contextmanager
def _local(source: Source) -> Iterator[Path]:
    """Give a video as a file of this machine: FFmpeg seeks too much to read it over a network."""
    with open_file(source.address) as file:  # FFmpeg would wait for a pipe, or read a device without end
        if not is_remote(source.address):
            yield local_path(source.address)
            return
        with tempfile.NamedTemporaryFile(suffix=Path(source.address).suffix) as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
            yield Path(copy.name)
