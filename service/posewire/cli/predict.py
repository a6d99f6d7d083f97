"""`posewire predict`: process image and video files with the engine that serves HTTP."""

import asyncio
import glob
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from rich.console import Console

from posewire.cli.predict_options import PredictOptions
from posewire.cli.predict_video import is_video, predict_video
from posewire.cli.progress import progress
from posewire.config import Settings
from posewire.engine.engine import Engine, load_engine
from posewire.errors import PosewireError, ServiceError
from posewire.files import make_folder, write_atomically
from posewire.imaging.draw import PictureType
from posewire.schemas.pose import ImageOut, coco_rows
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics
from posewire.types import PoseResult
from posewire.video.reading import SUFFIXES, import_av

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def predict(arguments: list[str], options: PredictOptions, settings: Settings) -> int:
    """Process all images, then all videos; return 1 if one of them failed, 130 after Ctrl-C.

    Raises:
        PosewireError: a file is missing or cannot be written, or the models do not load.
    """
    configure_logging(settings.log_level)
    paths = find_images(arguments)
    if any(is_video(path) for path in paths):
        import_av()
        if options.form == "coco":
            raise PosewireError("--format coco is for pictures: COCO's list knows neither times nor identities; leave it out for videos")
    if options.out is not None:
        make_folder(options.out)
    try:
        return asyncio.run(_predict(paths, options, settings))
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; what was written so far is whole")
        return 130


def find_images(arguments: Iterable[str]) -> list[Path]:
    """Return files, the images and videos of folders, and the matches of glob patterns, in order and each once.

    Raises:
        PosewireError: an argument matches nothing.
    """
    paths: dict[Path, None] = {}
    for argument in arguments:
        matches = list(_expand(argument))
        if not matches:
            raise PosewireError(f"{argument}: no such picture or video, folder with some, or pattern that matches one")
        paths.update(dict.fromkeys(matches))
    return list(paths)


def _expand(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        yield from sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES | SUFFIXES)
    elif path.exists():
        yield path
    else:
        yield from sorted(
            p
            for p in map(Path, glob.glob(argument, recursive=True))  # noqa: PTH207 - the pattern may be absolute
            if p.suffix.lower() in _SUFFIXES | SUFFIXES
        )


async def _predict(paths: list[Path], options: PredictOptions, settings: Settings) -> int:
    engine = load_engine(settings, Metrics())
    await engine.start()
    failed = 0
    coco: list[dict[str, object]] = []
    names = _DrawnNames(options.out)
    images, videos = [p for p in paths if not is_video(p)], [p for p in paths if is_video(p)]
    try:
        with progress(len(images), "pictures") as advance:
            async for path, data, answer in _estimates(engine, images):
                if isinstance(answer, ServiceError):
                    failed += 1
                    _report_failure(path, answer, options)
                else:
                    coco += _report(path, answer, engine, options)
                    if options.out is not None:
                        target = names.of(path, _drawn_suffix(path))
                        await engine.offload(_draw, engine, data, answer, target, options.min_keypoint_score)
                advance()
        for path in videos:
            drawn = names.of(path, ".mp4") if options.out is not None else None
            failed += not await predict_video(engine, path, drawn, options)
    finally:
        await engine.close()
    if options.as_json and options.form == "coco":
        print(json.dumps(coco))
    return int(failed > 0)


async def _estimates(engine: Engine, paths: Iterable[Path]) -> AsyncIterator[tuple[Path, bytes, PoseResult | ServiceError]]:
    """Yield results in the order of the paths; a few images are processed ahead, so that every core is busy."""
    settings = engine.settings
    options = settings.pose_options()

    async def one(path: Path) -> tuple[Path, bytes, PoseResult | ServiceError]:
        data = b""
        try:
            data = await engine.offload(_read, path)
            return path, data, await engine.estimate(data, options)
        except ServiceError as error:
            return path, data, error

    ahead: deque[asyncio.Task[tuple[Path, bytes, PoseResult | ServiceError]]] = deque()
    for path in paths:
        ahead.append(asyncio.create_task(one(path)))
        if len(ahead) > 2 * engine.plan.workers:
            yield await ahead.popleft()
    while ahead:
        yield await ahead.popleft()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServiceError(f"cannot be read: {error.strerror}") from None


def _report(path: Path, result: PoseResult, engine: Engine, options: PredictOptions) -> list[dict[str, object]]:
    """Print one result; return its COCO rows, which are printed together at the end."""
    threshold = options.min_keypoint_score or 0.0
    if not options.as_json:
        scores = ", ".join(f"{p.score:.2f}" for p in result.people)
        people = f"{len(result.people)} {'person' if len(result.people) == 1 else 'people'}"
        print(f"{path}: {result.width}x{result.height}, {people}{f' ({scores})' if scores else ''}, {result.timings.total * 1000:.0f} ms")
    elif options.form == "coco":
        image_id = int(path.stem) if path.stem.isdecimal() else path.name
        return [row.model_dump() for row in coco_rows(result, image_id, threshold)]
    else:
        out = ImageOut.from_result(result, engine.pose.spec.keypoints.names, threshold)
        print(json.dumps({"file": str(path), **out.model_dump()}))
    return []


def _report_failure(path: Path, error: ServiceError, options: PredictOptions) -> None:
    print(f"posewire: {path}: {error.detail}", file=sys.stderr)
    if options.as_json and options.form == "posewire":
        print(json.dumps({"file": str(path), "error": error.detail}))


def _draw(engine: Engine, data: bytes, result: PoseResult, target: Path, min_keypoint_score: float | None) -> None:
    media_type: PictureType = "image/jpeg" if target.suffix == ".jpg" else "image/png"
    write_atomically(target, engine.draw(data, result, media_type, min_keypoint_score))


def _drawn_suffix(source: Path) -> str:
    return ".jpg" if source.suffix.lower() in (".jpg", ".jpeg") else ".png"


class _DrawnNames:
    """The paths of drawn images and videos: never that of a source, and never the same twice."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path()
        self._taken: set[str] = set()

    def of(self, source: Path, suffix: str) -> Path:
        stem, n = source.stem, 1
        while (name := f"{stem}.pose{suffix}" if n == 1 else f"{stem}-{n}.pose{suffix}") in self._taken:
            n += 1
        self._taken.add(name)
        return self._folder / name
