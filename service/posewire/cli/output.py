"""Standard output and standard error of a command: every text can be written, and a failed write is an error of one line."""

import contextlib
import io
import os
import sys

from posewire.errors import PosewireError

_STANDARD_OUTPUT = 1


class OutputError(PosewireError):
    """Standard output cannot be written: its reader has gone, or its disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}")
        self.reader_gone = isinstance(error, BrokenPipeError)


class _Output(io.FileIO):
    """Standard output, with `OutputError` for `OSError`: the callers of `print` are many, and each would need the message."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type] # any buffer
        except OSError as error:
            raise OutputError(error) from None


def prepare_output() -> None:
    """Make standard output and standard error ready for a command: characters that they cannot encode are escaped.

    Raises:
        OutputError: standard output is closed.
    """
    _fill_standard_files()
    if sys.stderr is None:  # print would write to standard output instead
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for the rest of the process
    elif isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    if sys.stdout is None:  # print would drop everything
        raise OutputError(OSError(0, "it is closed; redirect it to a file or to /dev/null"))
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(_STANDARD_OUTPUT, "w", closefd=False)),
        encoding=sys.stdout.encoding,
        errors="backslashreplace",
        line_buffering=sys.stdout.isatty() or bool(getattr(sys.stdout, "write_through", False)),  # python -u
    )


def drop_output() -> None:
    """Send what is left for standard output nowhere: after an `OutputError`, Python would try it again at its exit."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STANDARD_OUTPUT)
        os.close(nowhere)


def _fill_standard_files() -> None:
    """Open the null device for each standard file that is closed: else the next file that is opened would get its number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def one_line(text: object) -> str:
    """Return a text without line breaks, such as those of a file's name."""
    return " ".join(str(text).split("\n"))
