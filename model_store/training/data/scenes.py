"""Whole images, made small once: what the detector trains on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_store.training.data import arrays
from model_store.training.data.crops import name
from model_store.training.data.leaks import HASH_BYTES, Fingerprints, perceptual_hash
from model_store.training.data.records import Scene, StoredImage, read_image
from posewire.imaging.geometry import letterbox
from posewire.types import FloatArray, UInt8Array

DEFAULT_SIDE = 416
# What the detector sees where there is no image.
PAD = 114


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """Images at the top left of squares, the rest filled with `PAD`."""

    images: UInt8Array  # (n, side, side, 3), RGB
    sizes_hw: np.ndarray[tuple[int, int], np.dtype[np.int64]]  # (n, 2), height and width of the part that is image
    boxes_xywh: Sequence[FloatArray]  # n times (people, 4), pixels of the square
    sources: Sequence[str]  # the sets
    source: np.ndarray[tuple[int], np.dtype[np.int64]]  # (n,) indices into `sources`
    fingerprints: Fingerprints
    folder: Path
    unlabelled: Sequence[str] = ()  # sets of whose images nobody has said who is in them

    def __len__(self) -> int:
        return len(self.images)

    def __reduce__(self) -> tuple[Callable[[Path], "Scenes"], tuple[Path]]:
        """As its folder: another process opens memory maps of its own."""
        return open_scenes, (self.folder,)


def cut(scenes: Sequence[Scene], folder: Path, *, side: int = DEFAULT_SIDE, workers: int = 2, advance: Callable[[], None]) -> None:
    """Scale images into a folder; goes on where it was stopped.

    Args:
        scenes: one an image.
        folder: to be made.
        side: of a square, pixels.
        workers: threads.
        advance: called after every image.

    Raises:
        PosewireError: as `arrays.build`, or an image cannot be read.
    """
    sources = sorted({scene.source for scene in scenes})
    unlabelled = sorted({scene.source for scene in scenes if not scene.labelled})
    counts = [len(scene.boxes_xywh) for scene in scenes]
    made = {
        "images": ((side, side, 3), "uint8"),
        "hashes": ((HASH_BYTES,), "uint8"),
        "sizes_hw": ((2,), "int64"),
        "scale": ((), "float32"),
    }
    plan = arrays.Plan(
        tasks=[arrays.Task(n, n + 1, scene.image) for n, scene in enumerate(scenes)],
        work=lambda image: _make_small(image, side),
        rows={key: arrays.Rows(*row) for key, row in made.items()},
        given={
            "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(scene.boxes_xywh for scene in scenes)]),
            "offsets": np.cumsum([0, *counts]),
            "source": np.array([sources.index(scene.source) for scene in scenes], np.int64),
        },
        notes={
            **{"sources": sources, "ids": [scene.id for scene in scenes], "side": side},
            **({"unlabelled": unlabelled} if unlabelled else {}),
        },
        source=" ".join(name(scene.image) for scene in scenes),
    )
    arrays.build(folder, plan, workers=workers, advance=advance)


def open_scenes(folder: Path) -> Scenes:
    """What `cut` made.

    Raises:
        PosewireError: it is not there, or not whole.
    """
    read = arrays.read(folder)
    a = read.arrays
    spans = zip(a["offsets"], a["offsets"][1:], a["scale"], strict=False)
    boxes = [np.asarray(a["boxes"][start:stop] * scale, np.float32) for start, stop, scale in spans]
    prints = Fingerprints(read.notes["ids"], np.asarray(a["hashes"]))
    kinds = read.notes["sources"], np.asarray(a["source"])
    return Scenes(a["images"], np.asarray(a["sizes_hw"]), boxes, *kinds, prints, folder, read.notes.get("unlabelled", ()))


def _make_small(image: StoredImage, side: int) -> dict[str, arrays.Array]:
    pixels = read_image(image)
    small, scale = letterbox(pixels, side, side, PAD)
    size = [max(1, round(length * scale)) for length in pixels.shape[:2]]
    hashed = perceptual_hash(pixels)
    return {"images": small[None], "hashes": hashed[None], "sizes_hw": np.array([size]), "scale": np.array([scale], np.float32)}
