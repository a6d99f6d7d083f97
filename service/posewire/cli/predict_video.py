"""Videos of `posewire predict`: a line per frame, and the video with drawn skeletons."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from posewire.cli.progress import video_progress
from posewire.cli.video_output import VideoOutput
from posewire.engine.video_session import PoseSession
from posewire.errors import ServiceError
from posewire.formats.base import scale_of
from posewire.schemas.video import FrameLine
from posewire.types import Priority
from posewire.video.frames import frames
from posewire.video.reading import SUFFIXES, VideoReader
from posewire.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from posewire.cli.predict_options import PredictOptions
    from posewire.engine.engine import Engine
    from posewire.types import PoseResult


def is_video(path: Path) -> bool:
    """Return True if a file has the suffix of a video."""
    return path.suffix.lower() in SUFFIXES


async def predict_video(
    engine: Engine, path: Path, target: Path | None, options: PredictOptions, add: Callable[[PoseResult, int, float], None]
) -> bool:
    """Process every frame of a video; return False if the video could not be read to its end.

    After a read error or Ctrl-C, the frames so far stay as complete files under another name.

    Args:
        engine: started.
        path: of the video.
        target: of the drawn video; None: nothing is written.
        options: the caller's choices.
        add: called with the result, the number and the time in seconds of each frame.

    Raises:
        PosewireError: a file cannot be written; the files of this video are deleted.
    """
    run = _Run(engine, path, target, options, add)
    try:
        await run.process()
    except ServiceError as error:
        run.end(partial=True)
        print(f"posewire: {path}: {error.detail}", file=sys.stderr)
        return False
    except asyncio.CancelledError:
        run.end(partial=True)
        raise
    except BaseException:
        run.discard()
        raise
    run.end(partial=False)
    return True


class _Run:
    """The processing of one video."""

    def __init__(
        self, engine: Engine, path: Path, target: Path | None, options: PredictOptions, add: Callable[[PoseResult, int, float], None]
    ) -> None:
        self._engine = engine
        self._path = path
        self._target = target
        self._options = options
        self._add = add
        self._output: VideoOutput | None = None
        self._frames = 0
        self._identities: set[int] = set()
        self._started = time.perf_counter()

    async def process(self) -> None:
        engine = self._engine
        with VideoReader(self._path, max_pixels=engine.settings.max_pixels) as reader:
            if self._target is not None:
                self._output = VideoOutput(self._target, reader.info.rate, engine, self._options.min_keypoint_score)
            session = self._options.tracking.session(engine, Priority.BULK)
            with video_progress(reader.info.frames, self._path.name) as advance:
                await self._process_frames(reader, session, advance)

    async def _process_frames(self, reader: VideoReader, session: PoseSession, advance: Callable[[], None]) -> None:
        names, threshold = self._engine.pose.spec.keypoints.names, self._options.min_keypoint_score or 0.0
        writing: asyncio.Task[None] | None = None
        async with contextlib.aclosing(frames(reader, None)) as stream:
            async for source in stream:
                result = await session.step(source.frame, source.t_seconds)
                scale = scale_of(result, normalized=self._options.normalized)
                line = FrameLine.from_result(result, names, threshold, scale, frame=source.index, pts_s=source.t_seconds)
                if writing is not None:  # the previous frame was drawn and encoded while the engine ran on this one
                    await writing
                if self._output is not None:
                    writing = asyncio.create_task(self._engine.offload(self._output.write, source, result, line))
                self._add(result, source.index, source.t_seconds)
                if self._options.own_lines:
                    print(line.model_dump_json())
                self._frames += 1
                self._identities |= {p.track_id for p in result.people if p.track_id is not None}
                advance()
        if writing is not None:
            await writing

    def end(self, *, partial: bool) -> None:
        """Close the files and print a summary."""
        files = self._output.finish(partial=partial) if self._output is not None else ()
        if not self._frames:
            return
        if not (self._options.readable or partial):
            return
        seconds = time.perf_counter() - self._started
        parts = [f"{counted(self._frames, 'frame', 'frames')} in {seconds:.1f} s ({self._frames / seconds:.1f} frames/s)"]
        if self._options.tracking.track:
            parts.append(counted(len(self._identities), "identity", "identities"))
        parts += [str(file) for file in files]
        print(f"{self._path}: {'stopped after ' if partial else ''}{', '.join(parts)}", file=sys.stderr if partial else sys.stdout)

    def discard(self) -> None:
        """Delete the files."""
        if self._output is not None:
            self._output.discard()
