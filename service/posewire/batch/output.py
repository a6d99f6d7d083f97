"""The results of a batch on disk or in a store: shards that are named by their content, so that what is whole is known by its name.

A shard is whole if the SHA-256 of its bytes begins with the digits in its name. Other files are parts that a killed process left; they
are removed. An image is done if a whole shard has it. So nothing has to be renamed, and no list of shards has to be kept up to date
while images are processed. At the end `manifest.json` lists the shards.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from posewire.batch.items import Ended, Failure, Outcome
from posewire.batch.run import Run
from posewire.batch.single_file import PARTS, SingleFile, is_single
from posewire.batch.sources import Source
from posewire.batch.stores import open_store
from posewire.batch.tables import (
    Counts,
    Row,
    Table,
    content_name,
    counts_of,
    decode,
    encode,
    failure_row,
    import_parquet,
    keys_of,
    result_row,
    source_row,
)
from posewire.errors import PosewireError

_TABLES: Final[tuple[Table, ...]] = ("results", "failures", "sources")
_NAME: Final = re.compile(r"(\d{6,})-([0-9a-f]{32})\.(parquet|ndjson)")
_RUN: Final = "run.json"
_MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class Shard:
    """A whole file of results or failures."""

    name: str
    bytes: int
    images: int  # rows
    people: int


@dataclass(slots=True)
class Found:
    """The results of earlier runs of the same command."""

    done: set[bytes] = field(default_factory=set)  # digests of images with a result or a failure
    removed: list[str] = field(default_factory=list)  # files that were parts, or had images twice


class Output:
    """The results of one run. One thread at a time uses it; the first call is `begin`.

    Args:
        address: of a folder or prefix, or of a single file, whose name ends with `.parquet`. Beside a file is a folder with its shards
            until all images are done.
        run: whose results they are.

    Raises:
        NotInstalled: the address, or Parquet, needs a package; the message says which.
        PosewireError: the address is not one of a store.
    """

    def __init__(self, address: str, run: Run) -> None:
        if is_single(address) and run.form != "parquet":
            raise PosewireError(f"{address}: one file is Parquet; give --out a folder, or leave --format out")
        if run.form == "parquet":
            import_parquet()
        self.address = address
        self._single = SingleFile(address, run) if is_single(address) else None
        self._store = open_store(address + PARTS if self._single else address)
        self._run = run
        self._shards: dict[Table, list[Shard]] = {table: [] for table in _TABLES}
        self._before: dict[Table, Counts] = dict.fromkeys(_TABLES, Counts(0, 0))  # of the single file
        self._number = 0  # of the next shard
        self._complete: dict[str, tuple[int, int]] = {}  # bytes and images of sources that were read to their end
        self.found = Found()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The files and folders that are written."""
        return self._single.addresses if self._single else (self.address,)

    @property
    def failures_at(self) -> str:
        """The file or the folder of the table of failures."""
        return self._single.addresses[1] if self._single else f"{self.address.rstrip('/')}/failures"

    @property
    def images(self) -> int:
        """Images that have a result."""
        return self._count("results").images

    @property
    def people(self) -> int:
        """People of all results."""
        return self._count("results").people

    @property
    def failures(self) -> int:
        """Images and sources that failed."""
        return self._count("failures").images

    def is_complete(self, source: Source) -> bool:
        """Return True if every image of a source is done. A source that has another size now than then is not complete."""
        return self._complete.get(source.name, (None, 0))[0] == source.bytes

    def images_of(self, source: Source) -> int:
        """Return the images and failures of a complete source."""
        return self._complete[source.name][1]

    def write(self, outcomes: Sequence[Outcome], ended: Sequence[Ended]) -> None:
        """Write what came of some images, and which sources are at their end.

        Args:
            outcomes: of images that are not done yet.
            ended: sources whose images are all in `outcomes` or in shards before.

        Raises:
            PosewireError: it cannot be written; the message says why.
        """
        results = [result_row(one, one.result) for one in outcomes if not isinstance(one.result, Failure)]
        failures = [failure_row(one.key, one.result) for one in outcomes if isinstance(one.result, Failure)]
        # Sources last: who finds one of them finds all its images.
        tables: list[tuple[Table, list[Row]]] = [("results", results), ("failures", failures), ("sources", list(map(source_row, ended)))]
        for table, rows in tables:
            if rows:
                data = encode(table, self._run.form, rows, self._run.about)
                name = f"{table}/{self._number:06}-{content_name(data)}.{self._run.form}"
                self._store.write(name, data)
                self._add(table, name, data, counts_of(rows))
        self._number += 1

    def finish(self, seconds: float) -> None:
        """Complete the results: all images are done. Writes the manifest, or the single file.

        Args:
            seconds: that this run took.

        Raises:
            PosewireError: it cannot be written; the message says why.
        """
        if self._single is None:
            self._store.write(_MANIFEST, _json(self._manifest(seconds)))
            return
        # Failures first: who finds the file of results finds everything.
        for table in ("failures", "results"):
            self._single.add(table, {shard.name: partial(self._read, shard.name) for shard in self._shards[table]})
        # The run last: it says what the other files are, if this process is killed before all are removed.
        for table in _TABLES:
            self._store.remove([f"{table}/{name}" for name in self._store.names(table)])
        self._store.remove([_RUN])
        self._store.remove_all()

    def _manifest(self, seconds: float) -> dict[str, Any]:
        return {
            "run": asdict(self._run),
            "images": self.images,
            "people": self.people,
            "failures": self.failures,
            "seconds": round(seconds, 3),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "results": [asdict(shard) for shard in self._shards["results"]],
            "failed": [asdict(shard) for shard in self._shards["failures"]],
        }

    @contextmanager
    def begin(self, sources: Sequence[str]) -> Iterator[None]:
        """Keep other processes out while the context is entered, check what is there, and find out which images are done.

        Args:
            sources: arguments of the command, for the manifest.

        Raises:
            PosewireError: the place holds another run or other files, another process uses it, or it cannot be written.
        """
        with self._store.locked():
            interrupted = self._check(sources)
            images: Counter[str] = Counter()
            if self._single:
                for table in ("results", "failures"):
                    rows, shards = self._single.load(table, interrupted=interrupted)
                    self._store.remove(shards)  # a process was killed after it had added them to the file
                    self._before[table] = counts_of(rows)
                    self._note(rows, images)
            for table in _TABLES:
                self._store.clean(table)
                for name in self._store.names(table):
                    self._load(table, name, images)
            self._complete = {name: (size, count) for name, (size, count) in self._complete.items() if images[name] == count}
            self._store.remove([_MANIFEST])  # it lists all shards, once all are there
            yield

    def _check(self, sources: Sequence[str]) -> bool:
        """Check that the place is empty or holds the same run; return True if it holds one.

        Raises:
            PosewireError: it does not; the message says what is there.
        """
        there = self._store.read(_RUN)
        names = [name for name in self._store.names("") if name not in _TABLES]
        if there is not None and (document := _parsed(there)) is not None:
            self._run.check(document, self.address)
        elif any(self._store.names(table) for table in _TABLES):
            raise PosewireError(f"{self.address} holds results, but its {_RUN} is damaged or missing; give another name to --out")
        elif names and names != [_RUN]:
            raise PosewireError(f"{self.address} holds other files, such as {names[0]}; give --out a folder that is empty or new")
        else:
            self._store.write(_RUN, _json(self._run.document(sources)))
        self._store.clean("")
        return there is not None

    def _note(self, rows: Sequence[Row], images: Counter[str]) -> bool:
        """Note that the images of some rows are done, unless one of them is already; return whether it did."""
        digests = [key.digest() for key in keys_of(rows)]
        if not self.found.done.isdisjoint(digests):
            return False
        self.found.done.update(digests)
        images.update(row["source"] for row in rows)
        return True

    def _load(self, table: Table, name: str, images: Counter[str]) -> None:
        """Note what a shard has, or remove what is no whole shard.

        Raises:
            PosewireError: the file is not of a run of this form.
        """
        if name.startswith("."):  # of a file manager
            return
        matched = _NAME.fullmatch(name)
        if matched is None or matched[3] != self._run.form:
            raise PosewireError(f"{self.address} holds other files, such as {table}/{name}; remove it, or give another name to --out")
        path = f"{table}/{name}"
        data = self._read(path)
        rows = decode(table, self._run.form, data) if content_name(data) == matched[2] else None
        # An image is in two shards if two machines have written here at the same time. Then all images of the second one are done again.
        if rows is None or (table != "sources" and not self._note(rows, images)):
            self._store.remove([path])
            self.found.removed.append(path)
            return
        if table == "sources":
            self._complete |= {row["source"]: (row["bytes"], row["images"]) for row in rows}
        self._add(table, path, data, counts_of(rows))
        self._number = max(self._number, int(matched[1]) + 1)

    def _read(self, name: str) -> bytes:
        data = self._store.read(name)
        if data is None:
            raise PosewireError(f"{self.address}: {name} was removed meanwhile; repeat the command")
        return data

    def _count(self, table: Table) -> Counts:
        shards, before = self._shards[table], self._before[table]
        return Counts(before.images + sum(one.images for one in shards), before.people + sum(one.people for one in shards))

    def _add(self, table: Table, name: str, data: bytes, counts: Counts) -> None:
        self._shards[table].append(Shard(name, len(data), counts.images, counts.people))


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"


def _parsed(data: bytes) -> dict[str, Any] | None:
    """Return a document; None: it is a part of one."""
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
