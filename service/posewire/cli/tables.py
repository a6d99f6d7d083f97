"""Tables of plain text: they can be read on a terminal of 80 columns, and in a pipe they are one line a row."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

_GAP: Final = "  "


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = (), optional: bool = False) -> None:
    """Print a header and rows of text. On a terminal that is too narrow, the last column is below the others or left out.

    Args:
        header: names of the columns.
        rows: a text for each column.
        numbers: names of the columns that are aligned at the right.
        optional: the last column is left out rather than put below.
    """
    lines = list(_lines(header, rows, numbers))
    columns = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and max(map(len, lines)) > columns:
        lines = list(_lines(header[:-1], [row[:-1] for row in rows], numbers))
        if not optional:
            indent = " " * (max(len(row[0]) for row in (header, *rows)) + len(_GAP))
            below = [textwrap.wrap(row[-1], columns, initial_indent=indent, subsequent_indent=indent) for row in rows]
            lines = [lines[0], *(line for row, more in zip(lines[1:], below, strict=True) for line in (row, *more))]
    print(*lines, sep="\n")


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = zip(header, row, widths, strict=True)
        yield _GAP.join(cell.rjust(width) if name in numbers else cell.ljust(width) for name, cell, width in cells).rstrip()
