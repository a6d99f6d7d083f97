"""The video, read once, and a session stepped through it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from posewire.config import load_settings
from posewire.engine.engine import Engine, load_engine
from posewire.engine.video_session import PoseSession
from posewire.telemetry.metrics import Metrics
from posewire.types import Pose, PoseOptions
from posewire.video.reading import VideoFrame, VideoReader

VTEST = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")


def read(path: Path, frames: int) -> list[VideoFrame]:
    """The first frames of a video."""
    with VideoReader(path, max_pixels=10_000_000) as reader:
        return [frame for _, frame in zip(range(frames), reader, strict=False)]


@asynccontextmanager
async def started_engine() -> AsyncIterator[Engine]:
    """The shipped models on this machine's default settings."""
    engine = load_engine(load_settings({}), Metrics())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def session_of(engine: Engine, *, detect_every: int, smooth: bool) -> PoseSession:
    """A session as `posewire predict` makes it."""
    options = PoseOptions(engine.settings.min_detection_score, engine.settings.max_people)
    return PoseSession(engine, options, smooth=smooth, detect_every=detect_every)


async def through(session: PoseSession, film: Sequence[VideoFrame]) -> list[tuple[Pose, ...]]:
    """Everyone in every frame."""
    return [(await session.step(frame.frame, frame.t_seconds)).people for frame in film]
