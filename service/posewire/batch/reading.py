"""Read the images of sources one by one, and leave out those that are done."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from posewire.batch.columns import parquet_items
from posewire.batch.items import Ended, Failure, Item, Key, Read, Unread
from posewire.batch.places import Unreadable, read_file
from posewire.batch.sources import Source
from posewire.batch.tars import tar_items
from posewire.batch.videos import video_items


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How sources are read."""

    column: str | None  # of Parquet files; None: the only one with bytes
    fps: float | None  # frames per second of videos; None: all frames
    max_bytes: int  # of one image
    max_pixels: int  # of one frame of a video


def read_items(source: Source, options: ReadingOptions, done: Collection[bytes]) -> Iterator[Read]:
    """Yield the images of a source that are not done, and the end of a source with several images.

    What cannot be read is an item with a failure. The weights of images that are done are added to the next one.

    Args:
        source: to be read.
        options: how.
        done: digests of the keys of images that have a result or a failure.

    Raises:
        NotInstalled: the source needs an extra; the message says which.
    """
    if source.kind == "image":
        if source.key.digest() not in done:
            yield Item(source.key, Unread(source.address, source.bytes), weight_of(source))
        return
    images, new, read, waiting = 0, 0, 0.0, 0.0
    for item in _of_source(source, options):
        images += 1
        read += item.weight
        waiting += item.weight
        if item.key.digest() not in done:
            new += 1
            yield item if item.weight == waiting else Item(item.key, item.content, waiting, item.time_ms)
            waiting = 0.0
    yield Ended(source.name, source.bytes, images, new, waiting + max(0.0, weight_of(source) - read))


def weight_of(source: Source) -> float:
    """Return the share of a source in the whole batch: its bytes, or 1 if they are not known."""
    return float(source.bytes or 1)


def load(content: Unread, max_bytes: int) -> bytes | Failure:
    """Read an image that is a file of its own."""
    if content.bytes > max_bytes:
        return Failure("too-large", f"the file has {content.bytes:,} bytes; at most {max_bytes:,} are taken")
    try:
        data = read_file(content.address, content.bytes, max_bytes)
    except Unreadable as error:
        return Failure("unreadable", error.reason)
    return Failure("too-large", f"the file has more than {max_bytes:,} bytes") if len(data) > max_bytes else data


def _of_source(source: Source, options: ReadingOptions) -> Iterator[Item]:
    try:
        if source.kind == "tar":
            yield from tar_items(source, options.max_bytes)
        elif source.kind == "parquet":
            yield from parquet_items(source, options.column, options.max_bytes)
        else:
            yield from video_items(source, options.fps, options.max_pixels)
    except Unreadable as error:
        yield Item(Key(source.name, ""), Failure("unreadable", error.reason), 0.0)
