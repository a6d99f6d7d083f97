"""The output files of a video: an MP4 with skeletons, and JSON Lines beside it."""

import contextlib
import os
import threading
from pathlib import Path

from posewire.engine.engine import Engine
from posewire.errors import PosewireError
from posewire.files import create_temporary
from posewire.schemas.video import FrameLine
from posewire.types import PoseResult
from posewire.video.reading import VideoFrame
from posewire.video.writing import VideoWriter


class VideoOutput:
    """A writer of both files; they are hidden until `finish` renames them. It may be used on any thread, one frame at a time.

    Args:
        target: the MP4, `NAME.pose.mp4`; the lines go to `NAME.pose.jsonl` beside it.
        rate: frames per second.
        engine: draws the skeletons.
        min_keypoint_score: keypoints below it are left out. None: the lines have all keypoints, the images the model's default.

    Raises (also from `write` and `finish`):
        PosewireError: a file cannot be written; the message says why. Both files are removed.
    """

    def __init__(self, target: Path, rate: float, engine: Engine, min_keypoint_score: float | None) -> None:
        self._target = target
        self._engine = engine
        self._min_keypoint_score = min_keypoint_score
        self._lock = threading.Lock()
        self._open = True
        self._frames = 0
        self._writer = VideoWriter(target, rate)
        try:
            handle, self._temporary = create_temporary(target.with_suffix(".jsonl"))
        except OSError as error:
            self._writer.discard()
            raise PosewireError(f"{target.parent} cannot be written to: {error.strerror}") from None
        self._lines = os.fdopen(handle, "w", encoding="utf-8")

    def write(self, source: VideoFrame, result: PoseResult, line: FrameLine) -> None:
        """Add a frame; takes tens of milliseconds. Does nothing after `finish`."""
        with self._lock:
            if not self._open:
                return
            try:
                self._lines.write(line.model_dump_json() + "\n")
            except OSError as error:
                self._discard()
                raise PosewireError(f"{self._target.with_suffix('.jsonl')} cannot be written: {error.strerror}") from None
            try:
                self._writer.write(self._engine.draw_pixels(source.frame, result, self._min_keypoint_score), source.t_seconds)
            except BaseException:
                self._discard()
                raise
            self._frames += 1

    def finish(self, *, partial: bool) -> tuple[Path, ...]:
        """Complete and rename both files, to `NAME.partial.pose.…` if `partial`; return their paths, or () if no frame was written."""
        with self._lock:
            if not self._open or not self._frames:
                self._discard()
                return ()
            self._open = False
            name = self._target.name
            video = self._target.with_name(name.removesuffix(".pose.mp4") + ".partial.pose.mp4" if partial else name)
            lines = video.with_suffix(".jsonl")
            try:
                self._lines.close()
                self._writer.finish(video)
                self._temporary.replace(lines)
            except OSError as error:
                self._discard()
                raise PosewireError(f"{lines} cannot be written: {error.strerror}") from None
            except PosewireError:
                self._discard()
                raise
            return video, lines

    def discard(self) -> None:
        """Remove the unfinished files; does nothing after `finish`."""
        with self._lock:
            self._discard()

    def _discard(self) -> None:
        self._open = False
        self._writer.discard()
        with contextlib.suppress(OSError):  # the disk may be full; the file is removed anyway
            self._lines.close()
        self._temporary.unlink(missing_ok=True)
