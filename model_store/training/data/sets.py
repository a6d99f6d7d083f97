"""Which sets to train on and which to hold out: a TOML file beside the data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import Field

from model_store.training import toml
from model_store.training.data import coco, labels, lsp, yolo
from model_store.training.data.records import Person, Scene
from posewire.errors import PosewireError

Record = TypeVar("Record", Person, Scene)

# Whom to keep of a held-out set: everybody who can be judged.
_HELD_OUT_KEYPOINTS, _HELD_OUT_HEIGHT = 1, 0.0


class _Set(toml.Table):
    name: str = Field(min_length=1)


class CocoSet(_Set):
    """COCO's JSON of person keypoints."""

    kind: Literal["coco"]
    annotations: Path
    images: Path


class YoloPoseSet(_Set):
    """A folder of YOLO-pose labels with 17 keypoints."""

    kind: Literal["yolo-pose"]
    images: Path
    labels: Path
    person_class: int = 0


class YoloSet(_Set):
    """A folder of YOLO detection or segmentation labels."""

    kind: Literal["yolo"]
    images: Path
    labels: Path
    person_class: int = 0


class LspSet(_Set):
    """The folder of LSP or LSP extended."""

    kind: Literal["lsp"]
    folder: Path


class LabelSet(_Set):
    """A file of labelled people, and the folder that its paths start from. The people keep the names of their own sets."""

    kind: Literal["labels"]
    file: Path
    images: Path


AnySet: TypeAlias = Annotated[CocoSet | YoloPoseSet | YoloSet | LspSet | LabelSet, Field(discriminator="kind")]


class Sets(toml.Table):
    """The file. Paths start from its folder."""

    train: tuple[AnySet, ...] = Field(min_length=1)
    held_out: tuple[AnySet, ...] = Field(min_length=1)
    exclude: frozenset[str] = frozenset()  # ids of pictures that are not to be trained on


def load_sets(file: Path) -> Sets:
    """Read a file of sets.

    Raises:
        PosewireError: names the key that is wrong.
    """
    return toml.load(file, Sets)


def people_of(chosen: AnySet, root: Path, *, held_out: bool = False) -> list[Person]:
    """The people of a set, those of one picture behind each other.

    Args:
        chosen: the set.
        root: where relative paths start.
        held_out: keep also those who are too small or too little annotated to learn from.

    Raises:
        PosewireError: the set cannot be read, or has no keypoints.
    """
    least = {"least_keypoints": _HELD_OUT_KEYPOINTS, "least_height": _HELD_OUT_HEIGHT} if held_out else {}
    match chosen:
        case CocoSet():
            return coco.load_people(root / chosen.annotations, root / chosen.images, source=chosen.name, **least)  # type: ignore[arg-type]
        case YoloPoseSet():
            folders = root / chosen.images, root / chosen.labels
            return yolo.load_people(*folders, source=chosen.name, person_class=chosen.person_class, **least)  # type: ignore[arg-type]
        case LspSet():
            return lsp.load_people(root / chosen.folder, source=chosen.name)
        case LabelSet():
            return labels.load_people(root / chosen.file, root / chosen.images)
        case YoloSet():
            raise PosewireError(
                f"{chosen.name} has boxes but no keypoints: let a teacher label it, python -m model_store.training.data label"
            )


def scenes_of(chosen: AnySet, root: Path) -> list[Scene]:
    """The pictures of a set with everybody in them.

    Raises:
        PosewireError: the set cannot be read, or does not say who else is in a picture.
    """
    match chosen:
        case CocoSet():
            return coco.load_scenes(root / chosen.annotations, root / chosen.images, source=chosen.name)
        case YoloPoseSet() | YoloSet():
            folders = root / chosen.images, root / chosen.labels
            return yolo.load_scenes(*folders, source=chosen.name, person_class=chosen.person_class)
        case LspSet() | LabelSet():
            raise PosewireError(f"{chosen.name} does not tell everybody in a picture: a detector must not learn from it")


def once(records: Sequence[Record], exclude: frozenset[str]) -> list[Record]:
    """Without the excluded pictures; a picture that several sets have, by its id, is kept of the first of them."""
    first: dict[str, str] = {}
    return [r for r in records if r.id not in exclude and first.setdefault(r.id, r.source) == r.source]
