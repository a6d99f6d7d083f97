"""The names of the files that `posewire predict --out` writes."""

from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import TypeAlias

from posewire.cli.predict_video import is_video
from posewire.errors import PosewireError

_Identity: TypeAlias = tuple[int, int]  # device and inode: the same for all names of a file


def drawn_names(folder: Path, sources: Iterable[Path]) -> dict[Path, Path]:
    """Return the path of the drawn image or video of each source; no two are equal, also where case does not count.

    Args:
        folder: that the files are written to.
        sources: images and videos.

    Raises:
        PosewireError: a file would be written over a source, under this or another of its names.
    """
    sources = list(sources)
    kept = {identity: source for source in sources if (identity := _identity(source))}
    taken: set[str] = set()
    targets = {}
    for source in sources:
        candidates = (_names(source.stem if n == 1 else f"{source.stem}-{n}", source) for n in count(1))
        names = next(names for names in candidates if taken.isdisjoint(map(str.casefold, names)))
        taken.update(map(str.casefold, names))
        for name in names:
            replaced = kept.get(_identity(folder / name) or (0, 0))
            if replaced is not None:
                raise PosewireError(
                    f"{replaced} would be replaced by the drawing of {source}; give another folder to --out, or leave {replaced} out"
                )
        targets[source] = folder / names[0]
    return targets


def _names(stem: str, source: Path) -> tuple[str, ...]:
    """Return the names of all files that are written for a source; the first is that of the drawing."""
    if is_video(source):
        return tuple(f"{stem}{ending}.pose.{kind}" for ending in ("", ".partial") for kind in ("mp4", "jsonl"))
    return (f"{stem}.pose{'.jpg' if source.suffix.lower() in ('.jpg', '.jpeg') else '.png'}",)


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
