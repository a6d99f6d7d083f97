"""The results of a batch as one Parquet file, and its failures as another one beside it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from posewire.batch.places import Unreadable, open_file
from posewire.batch.run import Run
from posewire.batch.stores import open_store
from posewire.batch.tables import Row, Table, import_parquet, read_parquet, schema_of
from posewire.errors import PosewireError

PARTS: Final = ".parts"  # the end of the name of the folder beside the file, in which the shards are until all images are done
_SUFFIX: Final = ".parquet"
_FAILURES: Final = ".failures.parquet"
_METADATA: Final = b"posewire"


def is_single(address: str) -> bool:
    """Return True if an address of results names one file, and not a folder."""
    return address.lower().endswith(_SUFFIX)


class SingleFile:
    """Two Parquet files, to which shards are added at the end of a run. Each appears when it is complete, also with new images later.

    The metadata of a file has the run, and the names of the shards that were added last. So a process that was killed after a file
    was complete, and before the shards were removed, does not add them again.

    Args:
        address: of the file of results.
        run: whose results it has.

    Raises:
        NotInstalled, PosewireError: as `open_store`.
    """

    def __init__(self, address: str, run: Run) -> None:
        folder, slash, name = address.rpartition("/")
        if folder.endswith(":/"):
            raise PosewireError(f"{address}: the file needs a folder before its name")
        self._store = open_store((folder or slash) if slash else ".")
        self._names: dict[Table, str] = {"results": name, "failures": name[: -len(_SUFFIX)] + _FAILURES}
        self._folder = f"{folder}{slash}"
        self._run = run
        self._there: dict[Table, bool] = {}  # whole files, as `load` found them

    @property
    def addresses(self) -> tuple[str, ...]:
        """The files, and the folder of shards."""
        results = self._address("results")
        return results, self._address("failures"), results + PARTS

    def load(self, table: Table, *, interrupted: bool) -> tuple[list[Row], list[str]]:
        """Return the rows of a file, and the names of the shards that were added last; nothing of a file that is not there.

        Args:
            table: of the file.
            interrupted: a run was not completed: a damaged file is the part that it had written, on a store that shows parts.

        Raises:
            PosewireError: the file is damaged, is none of a batch, or has a run with other parameters.
        """
        address = self._address(table)
        self._there[table] = False
        if not self._store.exists(self._names[table]):
            return [], []
        arrow, parquet = import_parquet()
        try:
            with open_file(address) as opened:
                file = parquet.ParquetFile(opened)
                document = _document(file)
                self._run.check(document, address)
                columns = [name for name in ("source", "image", "frame", "people") if name in file.schema_arrow.names]
                rows, shards = read_parquet(file, columns).to_pylist(), list(document["shards"])
        except (arrow.ArrowException, OSError, ValueError, KeyError) as error:
            if interrupted:
                return [], []
            raise PosewireError(f"{address} is not of `posewire batch`, or is damaged ({error}); give another name to --out") from None
        except Unreadable as error:
            raise PosewireError(str(error)) from None
        self._there[table] = True
        return rows, shards

    def add(self, table: Table, shards: Mapping[str, Callable[[], bytes]]) -> None:
        """Add shards to a file that was loaded. A file of failures is not made without any.

        Args:
            table: of the file.
            shards: what returns the bytes of a shard, by its name.

        Raises:
            PosewireError: the file cannot be read or written.
        """
        if not shards and (self._there[table] or table == "failures"):
            return
        arrow, parquet = import_parquet()
        about = json.dumps(json.loads(self._run.about) | {"run": asdict(self._run), "shards": list(shards)})
        schema, parts = schema_of(table, about), self._names["results"] + PARTS
        with (
            self._store.writing(self._names[table], parts) as target,
            parquet.ParquetWriter(target, schema, compression="zstd") as writer,
        ):
            if self._there[table]:
                for part in self._groups(table):
                    writer.write_table(part)
            for read in shards.values():
                writer.write_table(read_parquet(parquet.ParquetFile(arrow.BufferReader(read()))))

    def _groups(self, table: Table) -> Iterator[Any]:
        """Yield the row groups of a file, so that not all of it is in memory."""
        _, parquet = import_parquet()
        with open_file(self._address(table)) as opened:
            file = parquet.ParquetFile(opened)
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, use_threads=False)

    def _address(self, table: Table) -> str:
        return self._folder + self._names[table]


def _document(file: Any) -> dict[str, Any]:
    metadata = file.schema_arrow.metadata or {}
    document = json.loads(metadata.get(_METADATA, b"{}"))
    return document if isinstance(document, dict) else {}
