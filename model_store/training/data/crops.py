"""People cut out once, with room around them to scale, turn and shift: what the pose network trains on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from model_store.training.data import arrays
from model_store.training.data.leaks import HASH_BYTES, Fingerprints, perceptual_hash
from model_store.training.data.records import KEYPOINTS, Person, StoredImage, read_image
from posewire.imaging.geometry import apply_affine, crop_affine
from posewire.pipeline.pose_estimator import PADDING
from posewire.types import FloatArray, UInt8Array

# A stored crop shows this much more than what the service shows of a person, along the height.
AROUND = 1.5
DEFAULT_SIDE = 288


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """People in square crops; what the service would show of one is in the middle, `side / AROUND` high and three quarters of it wide."""

    images: UInt8Array  # (n, side, side, 3), RGB
    keypoints_xy: FloatArray  # (n, 17, 2), crop pixels
    weights: FloatArray  # (n, 17), 0..1; 0: unknown
    boxes_xywh: FloatArray  # (n, 4), crop pixels: the person's box as annotated
    sources: Sequence[str]  # the sets
    source: np.ndarray[tuple[int], np.dtype[np.int64]]  # (n,) indices into `sources`
    fingerprints: Fingerprints  # of the images, one each person
    folder: Path

    def __len__(self) -> int:
        return len(self.images)

    def __reduce__(self) -> tuple[Callable[[Path], "Crops"], tuple[Path]]:
        """As its folder: another process opens memory maps of its own."""
        return open_crops, (self.folder,)

    @property
    def side(self) -> int:
        """Pixels."""
        return int(self.images.shape[1])


def cut(people: Sequence[Person], folder: Path, *, side: int = DEFAULT_SIDE, workers: int = 2, advance: Callable[[], None]) -> None:
    """Cut people into a folder; goes on where it was stopped.

    Args:
        people: those of one image behind each other, so that it is read once.
        folder: to be made.
        side: of a crop, pixels; a multiple of 8.
        workers: threads.
        advance: called after every image.

    Raises:
        PosewireError: as `arrays.build`, or an image cannot be read.
    """
    sources = sorted({person.source for person in people})
    plan = arrays.Plan(
        tasks=by_image(people),
        work=lambda group: _cut_image(group, side),
        rows={"images": arrays.Rows((side, side, 3), "uint8"), "hashes": arrays.Rows((HASH_BYTES,), "uint8")},
        given=_annotations(people, side) | {"source": np.array([sources.index(p.source) for p in people], np.int64)},
        notes={"sources": sources, "ids": [person.id for person in people], "side": side},
        source=" ".join(name(person.image) for person in people),
    )
    arrays.build(folder, plan, workers=workers, advance=advance)


def open_crops(folder: Path) -> Crops:
    """What `cut` made.

    Raises:
        PosewireError: it is not there, or not whole.
    """
    read = arrays.read(folder)
    a = read.arrays
    prints = Fingerprints(read.notes["ids"], np.asarray(a["hashes"]))
    in_memory = {key: np.asarray(a[key]) for key in ("keypoints_xy", "weights", "boxes_xywh", "source")}
    return Crops(a["images"], sources=read.notes["sources"], fingerprints=prints, folder=folder, **in_memory)


def name(image: StoredImage) -> str:
    """Tells one image from another."""
    return perceptual_hash(image).tobytes().hex() if isinstance(image, np.ndarray) else str(image)


def by_image(people: Sequence[Person]) -> list[arrays.Task[Sequence[Person]]]:
    """One task an image: its people, who are behind each other."""
    starts = [n for n, person in enumerate(people) if n == 0 or not _same(person.image, people[n - 1].image)]
    return [arrays.Task(start, stop, people[start:stop]) for start, stop in zip(starts, [*starts[1:], len(people)], strict=True)]


def _same(a: StoredImage, b: StoredImage) -> bool:
    return a is b if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else a == b


def _affine(box_xywh: FloatArray, side: int) -> FloatArray:
    affine = crop_affine(box_xywh, side, side * 3 // 4, AROUND * PADDING)
    affine[0, 2] += side / 8  # from the narrow crop's middle to the square's
    return affine


def _annotations(people: Sequence[Person], side: int) -> dict[str, arrays.Array]:
    affines = [_affine(person.box_xywh, side) for person in people]
    keypoints = [apply_affine(affine, person.keypoints_xy) for person, affine in zip(people, affines, strict=True)]
    corners = [apply_affine(affine, person.box_xywh[:2]) for person, affine in zip(people, affines, strict=True)]
    sizes = [person.box_xywh[2:] * affine[0, 0] for person, affine in zip(people, affines, strict=True)]
    return {
        "keypoints_xy": np.array(keypoints, np.float32).reshape(-1, KEYPOINTS, 2),
        "weights": np.array([person.weights for person in people], np.float32).reshape(-1, KEYPOINTS),
        "boxes_xywh": np.concatenate([np.array(corners, np.float32), np.array(sizes, np.float32)], -1).reshape(-1, 4),
    }


def _cut_image(people: Sequence[Person], side: int) -> dict[str, arrays.Array]:
    """The people of one image."""
    pixels = read_image(people[0].image)
    cut_out = [cv2.warpAffine(pixels, _affine(person.box_xywh, side), (side, side), flags=cv2.INTER_LINEAR) for person in people]
    return {"images": np.stack(cut_out), "hashes": np.tile(perceptual_hash(pixels), (len(people), 1))}
