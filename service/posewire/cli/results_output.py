"""The results of `posewire predict` in a format: on standard output, in one file, or in a file per image."""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from posewire.cli.predict_options import PredictOptions
from posewire.cli.predict_video import is_video
from posewire.errors import PosewireError
from posewire.files import create_temporary, make_folder, write_atomically
from posewire.formats.base import Format, FormatOptions, ImagePoses


class ResultsOutput(Protocol):
    """Takes the results one by one, in order."""

    def add(self, source: Path, image: ImagePoses) -> None:
        """Write the people of an image, or of a frame of a video.

        Raises:
            PosewireError: it cannot be written; the message says why.
        """

    def finish(self, *, partial: bool) -> None:
        """Complete what was written; `partial` if the command was stopped.

        Raises:
            PosewireError: it cannot be written; the message says why.
        """

    def discard(self) -> None:
        """Remove what is not complete."""


def check_output(form: Format, paths: Sequence[Path], options: PredictOptions) -> None:
    """Raise an error if the results cannot be written as the options say, before a model is loaded.

    Raises:
        PosewireError: the message says what to change.
    """
    form.check(normalized=options.normalized)
    target = options.results_file
    if not form.videos and any(is_video(path) for path in paths):
        raise PosewireError(f"--format {form.name} is for images: it knows neither times nor identities; leave it out for videos")
    if target is not None:
        _check_sources([target], paths)
    elif form.one_image and not options.own_lines:
        if options.out is not None:
            _check_names(form, paths)
            _check_sources([options.out / f"{path.stem}{form.suffix}" for path in paths], paths)
        elif len(paths) > 1 or any(is_video(path) for path in paths):
            raise PosewireError(f"--format {form.name} is one file per image; name a folder for them with --out")
    elif form.name == "parquet" and sys.stdout.isatty():
        raise PosewireError("parquet is not for a terminal; name a file with --out, such as --out people.parquet")


def _check_sources(targets: Sequence[Path], paths: Sequence[Path]) -> None:
    for target in filter(Path.exists, targets):
        if any(path.exists() and target.samefile(path) for path in paths):
            raise PosewireError(f"{target} would be replaced by its own results; give another name to --out")


def _check_names(form: Format, paths: Sequence[Path]) -> None:
    targets: dict[str, Path] = {}
    for path in paths:
        other = targets.setdefault(path.stem.casefold(), path)
        if other != path:
            raise PosewireError(f"{other} and {path} would both be {path.stem}{form.suffix}; process one of them into another folder")


def open_output(form: Format, options: PredictOptions, format_options: FormatOptions) -> ResultsOutput:
    """Return the output that the options choose.

    Raises:
        PosewireError: a folder or a file cannot be made.
    """
    target = options.results_file
    if target is not None:
        return _OneFile(form, format_options, target)
    if form.one_image and options.out is not None:
        return _FilePerImage(form, format_options, options.out)
    return _StandardOutput(form, format_options)


class _StandardOutput:
    """Lines are written at once; any other document is written when it is complete."""

    def __init__(self, form: Format, options: FormatOptions) -> None:
        self._form = form
        self._encoder = form.encoder(options)
        self._parts = [self._encoder.head()]
        self._write_lines()

    def add(self, source: Path, image: ImagePoses) -> None:  # noqa: ARG002 - the document has the id
        self._parts.append(self._encoder.image(image))
        self._write_lines()

    def finish(self, *, partial: bool) -> None:
        if partial and not self._form.lines:
            return
        document = b"".join([*self._parts, self._encoder.tail()])
        if self._form.name == "coco":
            document = json.dumps(json.loads(document)).encode()  # with a space after each comma, for who compares texts
        if self._form.media_type == "application/json":
            document += b"\n"
        _write(document)

    def discard(self) -> None:
        self._parts = []

    def _write_lines(self) -> None:
        if self._form.lines:
            _write(b"".join(self._parts))
            self._parts = []


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class _OneFile:
    """A hidden file beside the target, which takes its name when it is complete; NAME.partial.SUFFIX if the command is stopped."""

    def __init__(self, form: Format, options: FormatOptions, target: Path) -> None:
        self._encoder = form.encoder(options)
        self._target = target
        self._images = 0
        make_folder(target.parent)
        try:
            handle, self._temporary = create_temporary(target)
        except OSError as error:
            raise self._error(error) from None
        self._file = os.fdopen(handle, "wb")
        self._write(self._encoder.head)

    def add(self, source: Path, image: ImagePoses) -> None:  # noqa: ARG002 - the document has the id
        self._write(lambda: self._encoder.image(image))
        self._images += 1

    def finish(self, *, partial: bool) -> None:
        if partial and not self._images:
            self.discard()
            return
        self._write(self._encoder.tail)
        target = self._target.with_name(f"{self._target.stem}.partial{self._target.suffix}") if partial else self._target
        try:
            self._file.close()
            self._temporary.replace(target)
        except OSError as error:
            self.discard()
            raise self._error(error) from None

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # the disk may be full; the file is removed anyway
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, part: Callable[[], bytes]) -> None:
        try:
            self._file.write(part())
        except OSError as error:
            self.discard()
            raise self._error(error) from None

    def _error(self, error: OSError) -> PosewireError:
        return PosewireError(f"{self._target} cannot be written: {error.strerror}")


class _FilePerImage:
    """Whole files in a folder; those of a video have the number of the frame in their names, as OpenPose names them."""

    def __init__(self, form: Format, options: FormatOptions, folder: Path) -> None:
        self._form = form
        self._options = options
        self._folder = folder
        make_folder(folder)

    def add(self, source: Path, image: ImagePoses) -> None:
        frame = "" if image.frame is None else f"_{image.frame:012}"
        document, _ = self._form.document([image], self._options)
        write_atomically(self._folder / f"{source.stem}{frame}{self._form.suffix}", document)

    def finish(self, *, partial: bool) -> None:
        pass

    def discard(self) -> None:
        pass


def image_names(paths: Sequence[Path]) -> Mapping[Path, str]:
    """Return the name by which a document calls each image: the file's name, or the path if several files have this name."""
    counts = Counter(path.name for path in paths)
    return {path: _printable(path.name if counts[path.name] == 1 else str(path)) for path in paths}


def _printable(name: str) -> str:
    """Return a name with escapes for bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
