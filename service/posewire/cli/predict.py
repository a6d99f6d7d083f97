"""`posewire predict`: process image and video files with the engine that serves HTTP."""

import asyncio
import glob
import json
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from posewire.cli.drawn_names import drawn_names
from posewire.cli.output import one_line
from posewire.cli.predict_options import PredictOptions
from posewire.cli.predict_video import is_video, predict_video
from posewire.cli.progress import progress
from posewire.cli.results_output import ResultsOutput, check_output, image_names, open_output
from posewire.cli.stopping import Stopped, cancelled_at_signals
from posewire.config import Settings
from posewire.engine.engine import Engine, load_engine
from posewire.errors import PosewireError, ServiceError
from posewire.files import UnreadableFile, make_folder, open_plain, read_plain, write_atomically
from posewire.formats.base import FormatOptions, ImagePoses, scale_of
from posewire.imaging.draw import ImageType
from posewire.schemas.pose import ImageOut
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics
from posewire.types import PoseResult
from posewire.video.reading import SUFFIXES, import_av
from posewire.words import counted

_SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".heic", ".heif", ".avif"}
_FEW = 16  # so many images are done before their models are warmed and measured
_MAX_DIGITS = 18  # of a number as COCO's id: longer ones do not fit into 64 bits


def predict(arguments: list[str], options: PredictOptions, settings: Settings) -> int:
    """Process all images, then all videos; return 1 if one of them failed, 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.

    Raises:
        PosewireError: a file is missing or cannot be written, a drawn file would replace a source, or the models do not load.
    """
    configure_logging(settings.log_level)
    paths = find_images(arguments)
    if any(is_video(path) for path in paths):
        import_av()
    if options.form is not None:
        check_output(options.form, paths, options)
    targets: Mapping[Path, Path] = {}
    if options.drawings is not None:
        make_folder(options.drawings)
        targets = drawn_names(options.drawings, paths)
    try:
        return asyncio.run(_predict(paths, targets, options, settings))
    except KeyboardInterrupt:
        code = 130
    except Stopped as stopped:
        code = stopped.status
    Console(stderr=True).print("stopped; what was written so far is whole")
    return code


def find_images(arguments: Iterable[str]) -> list[Path]:
    """Return files, the images and videos of folders, and the matches of glob patterns, in order and each once.

    Raises:
        PosewireError: an argument is empty, matches nothing, or names a folder that cannot be read.
    """
    paths: dict[Path, None] = {}
    for argument in arguments:
        try:
            matches = list(_expand(argument))
        except OSError as error:
            raise PosewireError(f"{argument}: cannot be read: {error.strerror}") from None
        if not matches:
            raise PosewireError(f"{argument or repr(argument)}: no such image or video, folder with some, or pattern that matches one")
        paths.update(dict.fromkeys(matches))
    return list(paths)


def _expand(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if not argument:  # a variable of a script that is not set; `Path` would take the current folder
        return
    if path.is_dir():
        yield from sorted(filter(_is_found, path.iterdir()))
    elif path.exists():
        yield path
    else:
        yield from sorted(filter(_is_found, map(Path, glob.glob(argument, recursive=True))))  # noqa: PTH207 - the pattern may be absolute


def _is_found(path: Path) -> bool:
    """Return whether a file of a folder or pattern is an image or a video, by its name. A folder may have such a name, too."""
    return path.suffix.lower() in _SUFFIXES | SUFFIXES and not path.is_dir()


async def _predict(paths: list[Path], targets: Mapping[Path, Path], options: PredictOptions, settings: Settings) -> int:
    with cancelled_at_signals():
        many = len(paths) > _FEW or any(is_video(path) for path in paths)
        engine = load_engine(settings, Metrics(), warms=many)
        try:
            await engine.start()
            return await _predict_all(engine, paths, targets, options)
        finally:
            await engine.close()


async def _predict_all(engine: Engine, paths: list[Path], targets: Mapping[Path, Path], options: PredictOptions) -> int:
    form = options.form
    if form is None or options.own_lines:
        return await _predict_each(engine, paths, targets, options, None)
    threshold = options.min_keypoint_score or 0.0
    spec = engine.pose.spec
    output = open_output(form, options, FormatOptions(spec.keypoints, spec.name, threshold, options.normalized))
    try:
        status = await _predict_each(engine, paths, targets, options, output)
    except asyncio.CancelledError:
        output.finish(partial=True)
        raise
    except BaseException:
        output.discard()
        raise
    output.finish(partial=False)
    return status


async def _predict_each(
    engine: Engine, paths: list[Path], targets: Mapping[Path, Path], options: PredictOptions, output: ResultsOutput | None
) -> int:
    failed = 0
    images, videos = [p for p in paths if not is_video(p)], [p for p in paths if is_video(p)]
    names = image_names(paths)
    ids = coco_ids(images) if options.form is not None and options.form.name == "coco" else names
    with progress(len(images), "images") as advance:
        async for path, data, answer in _estimates(engine, images):
            if isinstance(answer, ServiceError):
                failed += 1
                _report_failure(path, answer, options)
            else:
                if output is not None:
                    output.add(path, ImagePoses(ids[path], answer))
                _report(path, answer, engine, options)
                if path in targets:
                    await engine.offload(_draw, engine, data, answer, targets[path], options.min_keypoint_score)
            advance()
    for path in videos:
        failed += not await _predict_video(engine, path, names[path], targets.get(path), options, output)
    return int(failed > 0)


def coco_ids(paths: Sequence[Path]) -> dict[Path, int | str]:
    """Return the `image_id` of each image in COCO's results list; no two are equal.

    The id is the number in the name `NUMBER.jpg`, as COCO's own files have it, else the file's name. If several images would have the
    same id, such as `a/1.jpg` and `b/1.jpg`, it is the path of each.
    """
    short = {path: _short_id(path) for path in paths}
    counts = Counter(short.values())
    return {path: name if counts[name] == 1 else str(path) for path, name in short.items()}


def _short_id(path: Path) -> int | str:
    stem = path.stem
    return int(stem) if stem.isascii() and stem.isdecimal() and len(stem) <= _MAX_DIGITS else path.name


async def _predict_video(
    engine: Engine, path: Path, name: str, target: Path | None, options: PredictOptions, output: ResultsOutput | None
) -> bool:
    try:
        open_plain(path).close()  # FFmpeg would wait for a pipe, or read a device without end
    except UnreadableFile as error:
        _report_failure(path, ServiceError(error.reason), options)
        return False

    def add(result: PoseResult, frame: int, t_seconds: float) -> None:
        if output is not None:
            output.add(path, ImagePoses(name, result, frame, t_seconds * 1000))

    return await predict_video(engine, path, target, options, add)


async def _estimates(engine: Engine, paths: Iterable[Path]) -> AsyncIterator[tuple[Path, bytes, PoseResult | ServiceError]]:
    """Yield results in the order of the paths; a few images are processed ahead, so that every core is busy."""
    settings = engine.settings
    options = settings.pose_options()

    async def one(path: Path) -> tuple[Path, bytes, PoseResult | ServiceError]:
        data = b""
        try:
            data = await engine.offload(read_plain, path, settings.max_bytes)
            return path, data, await engine.estimate(data, options)
        except UnreadableFile as error:
            return path, data, ServiceError(error.reason)
        except ServiceError as error:
            return path, data, error

    ahead: deque[asyncio.Task[tuple[Path, bytes, PoseResult | ServiceError]]] = deque()
    for path in paths:
        ahead.append(asyncio.create_task(one(path)))
        if len(ahead) > 2 * engine.plan.workers:
            yield await ahead.popleft()
    while ahead:
        yield await ahead.popleft()


def _report(path: Path, result: PoseResult, engine: Engine, options: PredictOptions) -> None:
    """Print one result, unless it belongs to a document on standard output."""
    if options.own_lines:
        scale = scale_of(result, normalized=options.normalized)
        out = ImageOut.from_result(result, engine.pose.spec.keypoints.names, options.min_keypoint_score or 0.0, scale)
        print(json.dumps({"file": str(path), **out.model_dump()}))
    elif options.readable:
        scores = ", ".join(f"{p.score:.2f}" for p in result.people)
        milliseconds = f"{result.timings.total * 1000:.0f} ms"
        people = counted(len(result.people), "person", "people")
        size = f"{result.width}x{result.height}"
        print(f"{one_line(path)}: {size}, {people}{f' ({scores})' if scores else ''}, {milliseconds}")


def _report_failure(path: Path, error: ServiceError, options: PredictOptions) -> None:
    print(f"posewire: {one_line(path)}: {error.detail}", file=sys.stderr)
    if options.own_lines:
        print(json.dumps({"file": str(path), "error": error.detail}))


def _draw(engine: Engine, data: bytes, result: PoseResult, target: Path, min_keypoint_score: float | None) -> None:
    media_type: ImageType = "image/jpeg" if target.suffix == ".jpg" else "image/png"
    write_atomically(target, engine.draw(data, result, media_type, min_keypoint_score))
