"""How a training goes, as CSV: one row at every multiple of `log_every` samples."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from posewire.files import write_atomically

Row: TypeAlias = Mapping[str, float]


def write(file: Path, rows: Sequence[Row]) -> None:
    """Write the whole file. The checkpoint holds the rows, so that the file goes on where the training does.

    Raises:
        PosewireError: it cannot be written.
    """
    text = io.StringIO()
    if rows:
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    write_atomically(file, text.getvalue().encode())


def tell(row: Row) -> str:
    """A row as one line to read."""
    return "  ".join(f"{key} {value:,.0f}" if float(value).is_integer() else f"{key} {value:.4g}" for key, value in row.items())
