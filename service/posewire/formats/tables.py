"""Tables with a row per keypoint: CSV (RFC 4180), Apache Parquet, and data frames."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from posewire.errors import NotInstalled
from posewire.formats.base import SCORE_DECIMALS, Format, FormatOptions, ImagePoses, box_row, rounded, scale_of, xy_rows

if TYPE_CHECKING:
    import pandas as pd

Row: TypeAlias = tuple[Any, ...]

# Name and type of each column. Types are those of pandas; whole numbers may be missing if theirs has a capital letter.
COLUMNS: Final = {
    "image": "str",
    "width": "int64",
    "height": "int64",
    "frame": "Int64",
    "time_ms": "float64",
    "person": "int64",
    "track_id": "Int64",
    "person_score": "float64",
    "box_x": "float64",
    "box_y": "float64",
    "box_width": "float64",
    "box_height": "float64",
    "keypoint": "str",
    "x": "float64",
    "y": "float64",
    "score": "float64",
}

# Rows of a row group of Parquet: what is in memory while a long video is written.
_GROUP_ROWS: Final = 65_536


def rows_of(image: ImagePoses, options: FormatOptions) -> Iterator[Row]:
    """Yield a row for each keypoint that is not missing, with the values of `COLUMNS`."""
    result, scale = image.result, scale_of(image.result, normalized=options.normalized)
    time_ms = None if image.time_ms is None else round(image.time_ms, 3)
    of_image = (str(image.id), result.width, result.height, image.frame, time_ms)
    for person, pose in enumerate(result.people):
        of_person = (person, pose.track_id, round(pose.score, SCORE_DECIMALS), *box_row(pose, scale))
        scores = pose.keypoints.scores
        values = zip(options.keypoints.names, xy_rows(pose, scale), rounded(scores, SCORE_DECIMALS), scores.tolist(), strict=True)
        for name, (x, y), score, exact in values:
            if exact >= options.min_keypoint_score:
                yield *of_image, *of_person, name, x, y, score


def data_frame(images: Iterable[ImagePoses], options: FormatOptions) -> "pd.DataFrame":
    """Return a data frame of pandas with a row per keypoint and the columns of `COLUMNS`.

    Raises:
        NotInstalled: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - an extra
    except ImportError:
        raise NotInstalled("a data frame needs pandas, which is not installed here: pip install 'posewire[tables]'") from None
    rows = [row for image in images for row in rows_of(image, options)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


class CsvEncoder:
    """Writes lines; the first has the names of the columns."""

    def __init__(self, options: FormatOptions) -> None:
        self._options = options

    def head(self) -> bytes:
        """Return the names of the columns."""
        return _lines([tuple(COLUMNS)])

    def image(self, image: ImagePoses) -> bytes:
        """Return a line for each keypoint of an image."""
        return _lines(rows_of(image, self._options))

    def tail(self) -> bytes:
        """Return nothing."""
        return b""


def _lines(rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def import_parquet(extra: str = "tables") -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`.

    Args:
        extra: of Posewire that has pyarrow, for the message.

    Raises:
        NotInstalled: pyarrow is not installed; the message says how to install it.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise NotInstalled(f"parquet needs pyarrow, which is not installed here: pip install 'posewire[{extra}]'") from None
    return pa, pq


class ParquetEncoder:
    """Writes row groups; the last bytes have the index, so a file that is cut short cannot be read.

    Raises:
        NotInstalled: pyarrow is not installed.
    """

    def __init__(self, options: FormatOptions) -> None:
        self._options = options
        self._arrow, parquet = import_parquet()
        kinds = {"str": self._arrow.string(), "int64": self._arrow.int64(), "float64": self._arrow.float64()}
        self._schema = self._arrow.schema([(name, kinds[kind.lower()]) for name, kind in COLUMNS.items()])
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._rows: list[Row] = []

    def head(self) -> bytes:
        """Return the magic number."""
        return self._sink.taken()

    def image(self, image: ImagePoses) -> bytes:
        """Return a row group if there are enough rows for one."""
        self._rows += rows_of(image, self._options)
        if len(self._rows) < _GROUP_ROWS:
            return b""
        self._write_group()
        return self._sink.taken()

    def tail(self) -> bytes:
        """Return the last row group and the index."""
        if self._rows:
            self._write_group()
        self._writer.close()
        return self._sink.taken()

    def _write_group(self) -> None:
        columns = [
            self._arrow.array(values, field.type)
            for field, values in zip(self._schema, zip(*self._rows, strict=True), strict=True)
        ]  # fmt: skip
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))
        self._rows = []


class _Sink(io.RawIOBase):
    """A file that keeps what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self._parts)
        self._parts = []
        return data


CSV_FORMAT = Format("csv", "text/csv", ".csv", CsvEncoder, lines=True, videos=True)
PARQUET_FORMAT = Format("parquet", "application/vnd.apache.parquet", ".parquet", ParquetEncoder, videos=True, require=import_parquet)
