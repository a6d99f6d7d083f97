"""The images of Parquet files: a column of bytes, or of structs with a field `bytes`, as Hugging Face's datasets have them."""

from collections.abc import Iterator
from typing import Any, Final

from posewire.batch.items import Failure, Item, Key
from posewire.batch.places import open_file, reason_of
from posewire.batch.sources import Source
from posewire.batch.tables import import_parquet

_ROWS: Final = 8  # of a batch: its images are in memory together
_BUFFER: Final = 1 << 20  # bytes of a column that are read at once, instead of those of a whole row group


def parquet_items(source: Source, column: str | None, max_bytes: int) -> Iterator[Item]:
    """Yield the images of a Parquet file; the image's name is the number of its row, from 0.

    Args:
        source: of the kind "parquet".
        column: name of the column; None: the only one that holds bytes.
        max_bytes: limit of bytes of one image; a longer one fails.

    Raises:
        Unreadable: the file cannot be opened.
        NotInstalled: pyarrow is not installed.
    """
    arrow, parquet = import_parquet()
    with open_file(source.address) as file:
        row = 0
        try:
            table = parquet.ParquetFile(file, buffer_size=_BUFFER)
            name = _bytes_column(arrow, table.schema_arrow, column)
            if isinstance(name, Failure):
                yield Item(Key(source.name, ""), name, 0.0)
                return
            weight = source.bytes / max(1, table.metadata.num_rows)
            for batch in table.iter_batches(batch_size=_ROWS, columns=[name], use_threads=False):
                for value in batch.column(0).to_pylist():
                    yield Item(Key(source.name, str(row)), _content(value, max_bytes), weight)
                    row += 1
        except (arrow.ArrowException, OSError) as error:
            message = f"the Parquet file is damaged after {row} rows: {reason_of(error)}"
            yield Item(Key(source.name, ""), Failure("bad-archive", message), 0.0)


def _content(value: Any, max_bytes: int) -> bytes | Failure:
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None:
        return Failure("no-bytes", "the row has no bytes; a path alone is not read")
    if len(content) > max_bytes:
        return Failure("too-large", f"the image has {len(content):,} bytes; at most {max_bytes:,} are taken")
    return bytes(content)


def _bytes_column(arrow: Any, schema: Any, column: str | None) -> str | Failure:
    """Return the name of the column of images, or why there is none."""
    fitting = [field.name for field in schema if _holds_bytes(arrow, field.type)]
    if column is not None:
        if column in fitting:
            return column
        problem = "holds no bytes" if column in schema.names else "does not exist"
        return Failure("no-column", f"the column {column!r} {problem}; {_list_of(fitting)}")
    return fitting[0] if len(fitting) == 1 else Failure("no-column", f"{_list_of(fitting)}; name one with --column")


def _list_of(fitting: list[str]) -> str:
    return f"columns with bytes: {', '.join(fitting)}" if fitting else "no column holds bytes"


def _holds_bytes(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(arrow, field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))
