"""`posewire watch`: track the people of a camera; prints a line per frame until Ctrl-C."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self, TypeVar

from posewire.cli.output import OutputError, drop_output
from posewire.cli.predict_options import Tracking
from posewire.cli.video_output import VideoOutput
from posewire.config import Settings
from posewire.engine.engine import Engine, load_engine
from posewire.errors import PosewireError, ServiceError
from posewire.files import make_folder, read_plain
from posewire.registry.choice import choose
from posewire.registry.store import open_store
from posewire.schemas.events import Rule, parse_rules
from posewire.schemas.sinks import Sink, parse_sinks
from posewire.schemas.video import WatchLine
from posewire.signals import handle_signal, stop_signals
from posewire.sinks.feed import Feed
from posewire.sinks.opening import open_feed
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics
from posewire.types import Priority
from posewire.video.camera import Camera, address_of

T = TypeVar("T")

_NAME: Final = "watch"  # of the camera, in messages to sinks
_MAX_JSON_BYTES: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """The options of the command line."""

    out: Path | None
    min_keypoint_score: float | None
    tracking: Tracking
    rules: tuple[Rule, ...]
    sinks: tuple[Sink, ...]

    @classmethod
    def read(cls, out: Path | None, min_keypoint_score: float | None, tracking: Tracking, rules: Path | None, sinks: Path | None) -> Self:
        """Return the options, with rules and sinks from their JSON files.

        Raises:
            PosewireError: a file cannot be read, or has a rule or a sink that is not valid.
        """
        return cls(
            out,
            min_keypoint_score,
            tracking,
            () if rules is None else tuple(_parsed(parse_rules, rules)),
            () if sinks is None else tuple(_parsed(parse_sinks, sinks)),
        )


def _parsed(parse: Callable[[bytes], T], path: Path) -> T:
    try:
        return parse(read_plain(path, _MAX_JSON_BYTES))
    except ServiceError as error:
        raise PosewireError(f"{path}: {error.detail}") from None


def watch(source: str, options: WatchOptions, settings: Settings) -> int:
    """Print the poses of a camera, and the events, until a file's end, Ctrl-C, SIGTERM or SIGHUP; return 0 after any of them.

    Raises:
        PosewireError: the camera does not answer, a file cannot be written, or the models do not load.
    """
    out = options.out
    configure_logging(settings.log_level)
    choose(settings, open_store(settings).manifest)  # a wrong name is an error before a camera is asked
    if out is not None:
        make_folder(out)
    try:
        asyncio.run(_watch(source, options, settings))
    except KeyboardInterrupt:
        pass
    except ServiceError as error:
        raise PosewireError(f"{address_of(source)}: {error.detail}") from None
    except OutputError as error:
        if not error.reader_gone:
            raise
        drop_output()
    return 0


async def _watch(source: str, options: WatchOptions, settings: Settings) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in stop_signals():
        handle_signal(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        # The camera is first: a wrong address is an error at once.
        async with Camera(source, max_pixels=settings.max_pixels, report=_print_note) as camera, _engine(settings) as engine:
            with _output(options.out, camera.info.rate, engine, options.min_keypoint_score) as output:
                async with _feed(engine, options, settings) as feed:
                    await _track(camera, engine, output, feed, options)


@contextlib.asynccontextmanager
async def _feed(engine: Engine, options: WatchOptions, settings: Settings) -> AsyncIterator[Feed]:
    """Yield what gives events and feeds the sinks; at the end everyone who is there leaves."""
    names = engine.pose.spec.keypoints.names
    feed = await open_feed(_NAME, options.rules, options.sinks, names, settings.state_dir / "spools", _print_note)
    try:
        yield feed
    finally:
        for event in await feed.close():
            print(event.model_dump_json(), flush=True)


@contextlib.asynccontextmanager
async def _engine(settings: Settings) -> AsyncIterator[Engine]:
    engine = await asyncio.to_thread(load_engine, settings, Metrics())
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


async def _track(camera: Camera, engine: Engine, output: VideoOutput | None, feed: Feed, options: WatchOptions) -> None:
    session = options.tracking.session(engine, Priority.STREAM)
    names = engine.pose.spec.keypoints.names
    while (newest := await camera.newest()) is not None:
        source = newest.video
        result = await session.step(source.frame, source.t_seconds)
        line = WatchLine.from_result(
            result,
            names,
            options.min_keypoint_score or 0.0,
            frame=source.index,
            pts_s=source.t_seconds,
            time=datetime.now(UTC).isoformat(),
            dropped=newest.dropped,
            age_ms=round(1000 * (time.monotonic() - newest.received_s), 1),
        )
        print(line.model_dump_json(), flush=True)
        for event in await feed.step(result, line, source.t_seconds):
            print(event.model_dump_json(), flush=True)
        if output is not None:
            await engine.offload(output.write, source, result, line)


@contextlib.contextmanager
def _output(out: Path | None, rate: float, engine: Engine, min_keypoint_score: float | None) -> Iterator[VideoOutput | None]:
    """Yield an output whose files are complete even if the block ends early; only a full disk prevents that."""
    if out is None:
        yield None
        return
    output = VideoOutput(out / f"watch-{datetime.now(UTC):%Y%m%d-%H%M%S}.pose.mp4", rate, engine, min_keypoint_score)
    try:
        yield output
    finally:
        for path in output.finish(partial=False):
            _print_note(str(path))


def _print_note(text: str) -> None:
    print(f"posewire: {text}", file=sys.stderr, flush=True)
