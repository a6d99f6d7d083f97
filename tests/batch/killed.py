"""A program that writes the results of a batch again and again, and is killed by SIGKILL at each of its accesses to the results.

`python -m tests.batch.killed FOLDER ADDRESS FORM`: prints, for each point, what was found after it was killed twice there and then ran
to its end. A child process is forked for each run; it reads a real tar file and writes real shards, only the models are left out.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tests.batch.half_store
from posewire.batch.items import Ended, Failure, Outcome
from posewire.batch.output import Output
from posewire.batch.reading import read_items
from posewire.batch.run import Run
from posewire.batch.saving import Pending
from posewire.batch.tables import decode
from posewire.batch.tally import Tally
from tests.batch.made import OPTIONS, a_result, a_run, source_of, write_tar

_ACCESSES = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.listdir", "os.scandir", "shutil.rmtree"}
IMAGES = [f"{number}.jpg" for number in range(6)]
BAD = {"1.jpg", "4.jpg"}
SHARD = 3


def run_batch(address: str, run: Run, source: Path) -> None:
    """Write what is not done yet."""
    output = Output(address, run)
    with output.begin(["a.tar"]):
        archive = source_of(source)
        pending = Pending(output, Tally.of([archive], [archive], 0), lambda _: None, SHARD)
        if not output.is_complete(archive):
            for read in read_items(archive, OPTIONS, output.found.done):
                if isinstance(read, Ended):
                    pending.end(read)
                else:
                    bad = read.content == b"bad"
                    pending.add(Outcome(read.key, Failure("bad-picture", "no image") if bad else a_result(1), read.weight))
                if pending.full:
                    pending.take()()
            pending.take()()
        output.finish(1.0)


def forked(function: Callable[[], None]) -> int:
    """The exit code of a child that runs a function, or minus the signal that ended it."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        function()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)


def kill_at(point: int, folder: Path) -> None:
    """End this process at its access of this number to the files in a folder."""
    left = point

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _ACCESSES and any(str(one).startswith(str(folder)) for one in arguments[:2]):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def contents(folder: Path, form: str) -> dict[str, list[str]]:
    """The images of the tables, as a reader of the folder finds them."""
    found: dict[str, list[str]] = {}
    for table in ("results", "failures"):
        files = sorted(folder.glob(f"{table}/*")) or [folder / ("p.parquet" if table == "results" else "p.failures.parquet")]
        found[table] = sorted(row["image"] for file in files for row in decode(table, form, file.read_bytes()))  # type: ignore[arg-type]
    return found


def main(folder: Path, address: str, form: str) -> None:
    """Try every point."""
    folder.mkdir()
    source = write_tar(folder / "a.tar", {name: b"bad" if name in BAD else b"good" for name in IMAGES})
    run, out = a_run(form=form), folder / "out"
    address = address.replace("OUT", str(out))

    def killed(point: int) -> Callable[[], None]:
        def start() -> None:
            kill_at(point, out)
            run_batch(address, run, source)

        return start

    point = 0
    while True:
        point += 1
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        first = forked(killed(point))
        second = forked(killed(point)) if first else 0
        last = forked(lambda: run_batch(address, run, source))
        left = sorted(path.name for path in out.rglob(".posewire-*"))
        sys.stdout.write(json.dumps({"exits": [first, second, last], "left": left, **contents(out, form)}) + "\n")
        sys.stdout.flush()
        if not first:
            return


if __name__ == "__main__":
    assert tests.batch.half_store
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
