"""A batch on the engine: order, memory, repetitions, and the end in the middle."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from posewire.batch.items import Ended, Failure, Item, Key, Outcome, Read
from posewire.batch.local import run_here
from posewire.batch.output import Output
from posewire.batch.reading import read_items
from posewire.batch.saving import Pending
from posewire.batch.sources import Source
from posewire.batch.tables import decode
from posewire.batch.tally import Tally
from posewire.engine.engine import Engine
from posewire.errors import NotInstalled, PosewireError
from tests.batch.made import OPTIONS, a_run, small, source_of, write_tar
from tests.conftest import MakeEngine

RUN = a_run(form="ndjson")


class Place:
    """An output in a folder, and what is pending for it."""

    def __init__(self, folder: Path, shard_images: int = 4, on_change: Callable[[Tally], None] = lambda _: None) -> None:
        self.folder = folder
        self.output = Output(str(folder), RUN)
        self.tally = Tally(0.0)
        self.pending = Pending(self.output, self.tally, on_change, shard_images)

    def images(self, table: str = "results") -> list[str]:
        """The images of a table, in the order of the shards."""
        files = sorted((self.folder / table).glob("*"))
        return [row["image"] for file in files for row in decode(table, "ndjson", file.read_bytes())]  # type: ignore[arg-type]


async def process(engine: Engine, place: Place, sources: list[Source], read: Callable[[Source], Iterator[Read]] | None = None) -> None:
    await engine.start()
    try:
        with place.output.begin([]):
            await run_here(engine, sources, read or (lambda source: read_items(source, OPTIONS, place.output.found.done)), place.pending)
    finally:
        await engine.close()


async def test_results_are_in_the_order_of_the_sources(make_engine: MakeEngine, tmp_path: Path) -> None:
    image = small()
    sources = []
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").write_bytes(image if name != "b" else b"")
        sources.append(source_of(tmp_path / f"{name}.jpg"))
    sources.insert(1, source_of(write_tar(tmp_path / "t.tar", {f"{i}.jpg": image for i in range(6)})))
    sources.append(Source(str(tmp_path / "gone.jpg"), "image", 0))
    place = Place(tmp_path / "out")
    await process(make_engine(), place, sources)
    assert place.images() == ["a.jpg", *"012345", "c.jpg"]
    assert place.images("failures") == ["b.jpg", "gone.jpg"]
    assert (place.tally.images, place.tally.people, place.tally.failures) == (8, 8, 2)
    assert place.tally.weight == pytest.approx(sum(source.bytes or 1 for source in sources))
    assert place.output.is_complete(sources[1]) is False  # known to the next run, by what is on disk
    later = Place(tmp_path / "out")
    with later.output.begin([]):
        assert later.output.is_complete(sources[1])


async def test_a_cancelled_batch_has_written_what_is_done(make_engine: MakeEngine, tmp_path: Path) -> None:
    archive = source_of(write_tar(tmp_path / "t.tar", {f"{i:02}.jpg": small() for i in range(60)}))
    reached = asyncio.Event()
    place = Place(tmp_path / "out", 1000, lambda tally: reached.set() if tally.images >= 3 else None)
    engine = make_engine()
    task = asyncio.create_task(process(engine, place, [archive]))
    await reached.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    first = place.images()
    assert 3 <= len(first) < 60
    assert first == [f"{i:02}" for i in range(len(first))]
    place = Place(tmp_path / "out", 1000)
    await process(make_engine(), place, [archive])
    assert place.images() == [f"{i:02}" for i in range(60)]


async def test_few_images_are_in_memory(make_engine: MakeEngine, tmp_path: Path) -> None:
    taken = 0
    ahead: list[int] = []
    place = Place(tmp_path / "out", 1000, lambda tally: ahead.append(taken - tally.images))

    def read(_: Source) -> Iterator[Read]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield Item(Key("/s", str(number)), small(), 1.0)

    await process(make_engine(), place, [Source("/s", "tar", 1)], read)
    assert place.tally.images == 200
    assert max(ahead) <= 64 + 3 * 16


async def test_large_images_are_limited_by_their_bytes(make_engine: MakeEngine, tmp_path: Path) -> None:
    taken = 0
    ahead: list[int] = []
    place = Place(tmp_path / "out", 1000, lambda tally: ahead.append(taken - tally.failures))

    def read(_: Source) -> Iterator[Read]:
        nonlocal taken
        for number in range(12):
            taken += 1
            yield Item(Key("/s", str(number)), b"\xff" * 50_000_000, 1.0)

    await process(make_engine(), place, [Source("/s", "tar", 1)], read)
    assert place.images("failures") == [str(number) for number in range(12)]
    assert max(ahead) <= 8  # 256 MB, and a chunk on either side of the thread


async def test_an_image_that_is_too_large_fails_alone(make_engine: MakeEngine, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(small(200))
    (tmp_path / "b.jpg").write_bytes(small(60))
    place = Place(tmp_path / "out")
    await process(make_engine(max_pixels=10_000), place, [source_of(tmp_path / "a.jpg"), source_of(tmp_path / "b.jpg")])
    assert (place.images("failures"), place.images()) == (["a.jpg"], ["b.jpg"])


async def test_what_cannot_be_written_ends_the_batch(make_engine: MakeEngine, tmp_path: Path) -> None:
    archive = source_of(write_tar(tmp_path / "t.tar", {f"{i}.jpg": small() for i in range(40)}))
    place = Place(tmp_path / "out", 4)
    with pytest.raises(PosewireError, match="cannot be written"):
        await process(make_engine(), place, [archive], _spoil_after(tmp_path / "out", archive))


def _spoil_after(out: Path, archive: Source) -> Callable[[Source], Iterator[Read]]:
    """Read the archive, and put a file where the folder of results was to be."""

    def read(_: Source) -> Iterator[Read]:
        (out / "results").touch()
        yield from read_items(archive, OPTIONS, ())

    return read


async def test_a_missing_extra_ends_the_batch(make_engine: MakeEngine, tmp_path: Path) -> None:
    def read(_: Source) -> Iterator[Read]:
        yield Item(Key("/s", "1"), small(), 1.0)
        raise NotInstalled("pip install it")

    place = Place(tmp_path / "out")
    with pytest.raises(NotInstalled, match="pip install it"):
        await process(make_engine(), place, [Source("/s", "video", 1)], read)
    assert Place(tmp_path / "out").images() in ([], ["1"])


async def test_an_end_without_images_is_kept(make_engine: MakeEngine, tmp_path: Path) -> None:
    place = Place(tmp_path / "out")
    await process(make_engine(), place, [source_of(write_tar(tmp_path / "t.tar", {"a.txt": b""}))])
    assert len(list((tmp_path / "out/sources").iterdir())) == 1
    assert place.tally.weight > 0


def test_pending_outcomes_are_counted(tmp_path: Path) -> None:
    place = Place(tmp_path, 2)
    place.pending.add(Outcome(Key("/s", "1"), Failure("bad-picture", "no"), 5.0))
    assert not place.pending.full
    place.pending.add(Outcome(Key("/s", "2"), Failure("bad-picture", "no"), 6.0))
    assert place.pending.full
    place.pending.end(Ended("/s", 11, 2, 2, 4.0))
    assert (place.tally.weight, place.tally.failures) == (15.0, 2)
