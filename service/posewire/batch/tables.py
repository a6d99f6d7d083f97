"""The tables of a batch, as Parquet and as NDJSON: results with a row per image, failures, and sources that were read to their end."""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from pydantic_core import to_json

from posewire.batch.items import Ended, Failure, Key, Outcome, printable
from posewire.formats import tables
from posewire.formats.base import DECIMALS, SCORE_DECIMALS
from posewire.types import FloatArray, PoseResult

Form: TypeAlias = Literal["parquet", "ndjson"]
Table: TypeAlias = Literal["results", "failures", "sources"]
Row: TypeAlias = dict[str, Any]

# `image`, `width`, `height`, `frame` and `time_ms` are as in the table of `formats/tables.py`.
_KEY: Final = {"source": "string", "image": "string", "frame": "int64"}
_COLUMNS: Final[dict[Table, dict[str, str]]] = {
    "results": _KEY
    | {
        "time_ms": "float64",
        "width": "int64",
        "height": "int64",
        "people": "int64",
        "boxes": "list<list<float>>",
        "scores": "list<float>",
        "keypoints": "list<list<list<float>>>",
    },
    "failures": _KEY | {"reason": "string", "message": "string"},
    "sources": {"source": "string", "bytes": "int64", "images": "int64"},
}


@dataclass(frozen=True, slots=True)
class Counts:
    """The content of a shard."""

    images: int  # rows
    people: int


def import_parquet() -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        NotInstalled: pyarrow is not installed; the message says how to install it.
    """
    return tables.import_parquet("batch")


def read_parquet(file: Any, columns: Sequence[str] | None = None) -> Any:
    """Return the Arrow table of a `ParquetFile`: these columns, or all.

    It is read without threads. A thread of Arrow that releases a Python object while the interpreter ends would abort the process
    (https://github.com/apache/arrow/issues/34314), after all of its work was done.
    """
    return file.read(columns=columns, use_threads=False)


def result_row(outcome: Outcome, result: PoseResult) -> Row:
    """Return the row of an image: its size, and the boxes (n, 4), scores (n,) and keypoints (n, K, 3) of its people, best first.

    Boxes are x y w h, keypoints x y score, in pixels of the upright image.
    """
    people = result.people
    return {
        **outcome.key._asdict(),
        "time_ms": None if outcome.time_ms is None else round(outcome.time_ms, 3),
        "width": result.width,
        "height": result.height,
        "people": len(people),
        "boxes": [_rounded(pose.box_xywh, DECIMALS) for pose in people],
        "scores": [round(pose.score, SCORE_DECIMALS) for pose in people],
        "keypoints": [_keypoints(pose.keypoints.xy, pose.keypoints.scores) for pose in people],
    }


def failure_row(key: Key, failure: Failure) -> Row:
    """Return the row of an image that has no result."""
    return {**key._asdict(), "reason": failure.reason, "message": printable(failure.message)}


def source_row(ended: Ended) -> Row:
    """Return the row of a source that was read to its end."""
    return {"source": ended.source, "bytes": ended.bytes, "images": ended.images}


def encode(table: Table, form: Form, rows: Sequence[Row], about: str) -> bytes:
    """Return the file of some rows; the same rows give the same bytes.

    Args:
        table: of the rows.
        form: of the file.
        rows: with the columns of the table.
        about: JSON for the file's metadata; NDJSON has none.

    Raises:
        NotInstalled: pyarrow is not installed.
    """
    if form == "ndjson":
        return b"".join(to_json(row, inf_nan_mode="null") + b"\n" for row in rows)
    arrow, parquet = import_parquet()
    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(list(rows), schema=schema_of(table, about)), sink, compression="zstd")
    return sink.getvalue()


def schema_of(table: Table, about: str) -> Any:
    """Return the Arrow schema of a table, with `about` in its metadata."""
    arrow, _ = import_parquet()
    kinds: dict[str, Any] = {"string": arrow.string(), "int64": arrow.int64(), "float64": arrow.float64()}
    numbers = arrow.list_(arrow.float32())
    rows = arrow.list_(numbers)
    kinds |= {"list<float>": numbers, "list<list<float>>": rows, "list<list<list<float>>>": arrow.list_(rows)}
    return arrow.schema([(name, kinds[kind]) for name, kind in _COLUMNS[table].items()], metadata={b"posewire": about.encode()})


def decode(table: Table, form: Form, data: bytes) -> list[Row]:
    """Return the rows of a file, with the columns that tell which images they are of, and with `people`.

    Raises:
        NotInstalled: pyarrow is not installed.
        ValueError: the file is no such table.
    """
    columns = [name for name in _COLUMNS[table] if name in {*_KEY, "people", "bytes", "images"}]
    if form == "ndjson":
        try:
            lines = [json.loads(line) for line in data.splitlines()]
            return [{name: line[name] for name in columns} for line in lines]
        except (KeyError, TypeError) as error:
            raise ValueError(f"a line has no {error}") from None
    arrow, parquet = import_parquet()
    try:
        rows: list[Row] = read_parquet(parquet.ParquetFile(arrow.BufferReader(data)), columns).to_pylist()
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from None
    return rows


def keys_of(rows: Iterable[Row]) -> Iterator[Key]:
    """Yield the keys of rows of results or failures."""
    return (Key(row["source"], row["image"], row["frame"]) for row in rows)


def counts_of(rows: Sequence[Row]) -> Counts:
    """Return what some rows hold."""
    return Counts(len(rows), sum(row.get("people", 0) for row in rows))


def content_name(data: bytes) -> str:
    """Return the name of a file by its content: the first 32 digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def _rounded(values: FloatArray, decimals: int) -> list[Any]:
    rounded: list[Any] = values.astype(np.float64).round(decimals).tolist()
    return rounded


def _keypoints(xy: FloatArray, scores: FloatArray) -> list[list[float]]:
    points = np.concatenate([xy.astype(np.float64).round(DECIMALS), scores.astype(np.float64).round(SCORE_DECIMALS)[:, None]], axis=1)
    rows: list[list[float]] = points.tolist()
    return rows
