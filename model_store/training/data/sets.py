"""Which sets to train on and which to hold out: a TOML file beside the data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import Field, PositiveInt

from model_store.training import toml
from model_store.training.data import coco, image_folders, labels, lsp, yolo
from model_store.training.data.known import is_for_research
from model_store.training.data.records import Person, Scene
from model_store.training.data.unstretch import NONE, Sizes, load_sizes
from posewire.errors import PosewireError

Record = TypeVar("Record", Person, Scene)

# Whom to keep of a held-out set: everybody who can be judged.
_HELD_OUT_KEYPOINTS, _HELD_OUT_HEIGHT = 1, 0.0


class _Set(toml.Table):
    name: str = Field(min_length=1)


class _Images(_Set):
    sizes: Path | None = None  # true sizes of images that may be stretched, as `unstretch.load_sizes` reads them


class CocoSet(_Images):
    """COCO's JSON of person keypoints."""

    kind: Literal["coco"]
    annotations: Path
    images: Path


class YoloPoseSet(_Images):
    """A folder of YOLO-pose labels with 17 keypoints."""

    kind: Literal["yolo-pose"]
    images: Path
    labels: Path
    person_class: int = 0


class YoloSet(_Images):
    """A folder of YOLO detection or segmentation labels."""

    kind: Literal["yolo"]
    images: Path
    labels: Path
    person_class: int = 0


class LspSet(_Set):
    """The folder of LSP or LSP extended."""

    kind: Literal["lsp"]
    folder: Path


class LabelSet(_Images):
    """A file of labelled people, and the folder that its paths start from. The people keep the names of their own sets."""

    kind: Literal["labels"]
    file: Path
    images: Path


class ImageSet(_Images):
    """A folder of images, with those below it, for the detector: of nobody, or for a teacher to look at."""

    kind: Literal["images"]
    images: Path
    nobody: bool = False  # there are no people in them
    most: PositiveInt | None = None  # images: so many, by chance


AnySet: TypeAlias = Annotated[CocoSet | YoloPoseSet | YoloSet | LspSet | LabelSet | ImageSet, Field(discriminator="kind")]


class Sets(toml.Table):
    """The file. Paths start from its folder."""

    train: tuple[AnySet, ...] = Field(min_length=1)
    held_out: tuple[AnySet, ...] = Field(min_length=1)
    exclude: frozenset[str] = frozenset()  # ids of images that are not to be trained on
    research: bool = True  # False: sets that are for research only are left out


def load_sets(file: Path, *, no_research: bool = False) -> Sets:
    """Read a file of sets.

    Args:
        file: TOML.
        no_research: leave out sets that are for research only, as if the file said so.

    Raises:
        PosewireError: names the key that is wrong.
    """
    sets = toml.load(file, Sets)
    return sets.model_copy(update={"research": False}) if no_research else sets


def training_people(sets: Sets, root: Path) -> list[Person]:
    """The people to train on, each image once; without those of sets for research, if the file says so.

    Raises:
        PosewireError: as `people_of`.
    """
    return _allowed(sets, [person for chosen in _chosen(sets) for person in people_of(chosen, root)])


def training_scenes(sets: Sets, root: Path) -> list[Scene]:
    """The images to train on, as `training_people`.

    Raises:
        PosewireError: as `scenes_of`.
    """
    return _allowed(sets, [scene for chosen in _chosen(sets) for scene in scenes_of(chosen, root)])


def _chosen(sets: Sets) -> list[AnySet]:
    return [chosen for chosen in sets.train if sets.research or not is_for_research(chosen.name)]


def _allowed(sets: Sets, records: Sequence[Record]) -> list[Record]:
    # A file of labelled people has people of several sets.
    return once([r for r in records if sets.research or not is_for_research(r.source)], sets.exclude)


def people_of(chosen: AnySet, root: Path, *, held_out: bool = False) -> list[Person]:
    """The people of a set, those of one image behind each other.

    Args:
        chosen: the set.
        root: where relative paths start.
        held_out: keep also those who are too small or too little annotated to learn from.

    Raises:
        PosewireError: the set cannot be read, or has no keypoints.
    """
    sizes = _sizes(chosen, root)
    least = {"least_keypoints": _HELD_OUT_KEYPOINTS, "least_height": _HELD_OUT_HEIGHT} if held_out else {}
    match chosen:
        case CocoSet():
            where = root / chosen.annotations, root / chosen.images
            return coco.load_people(*where, source=chosen.name, sizes=sizes, **least)  # type: ignore[arg-type]
        case YoloPoseSet():
            where = root / chosen.images, root / chosen.labels
            kind = chosen.person_class
            return yolo.load_people(*where, source=chosen.name, person_class=kind, sizes=sizes, **least)  # type: ignore[arg-type]
        case LspSet():
            return lsp.load_people(root / chosen.folder, source=chosen.name)
        case LabelSet():
            return labels.load_people(root / chosen.file, root / chosen.images, sizes)
        case ImageSet():
            raise PosewireError(f"{chosen.name} has images only: a pose network learns from people")
        case YoloSet():
            raise PosewireError(
                f"{chosen.name} has boxes but no keypoints: let a teacher label it, python -m model_store.training.data label"
            )


def scenes_of(chosen: AnySet, root: Path) -> list[Scene]:
    """The images of a set with everybody in them.

    Raises:
        PosewireError: the set cannot be read, or does not say who else is in an image.
    """
    sizes = _sizes(chosen, root)
    match chosen:
        case CocoSet():
            return coco.load_scenes(root / chosen.annotations, root / chosen.images, source=chosen.name, sizes=sizes)
        case YoloPoseSet() | YoloSet():
            folders = root / chosen.images, root / chosen.labels
            return yolo.load_scenes(*folders, source=chosen.name, person_class=chosen.person_class, sizes=sizes)
        case ImageSet():
            return image_folders.load_scenes(root / chosen.images, source=chosen.name, nobody=chosen.nobody, most=chosen.most, sizes=sizes)
        case LspSet() | LabelSet():
            raise PosewireError(
                f"{chosen.name} does not tell everybody in an image: a detector must not learn from it; "
                'for a teacher to look at, its images may be a set of kind = "images"'
            )


def _sizes(chosen: AnySet, root: Path) -> Sizes:
    return load_sizes(root / chosen.sizes) if isinstance(chosen, _Images) and chosen.sizes is not None else NONE


def once(records: Sequence[Record], exclude: frozenset[str]) -> list[Record]:
    """Without the excluded images; an image that several sets have, by its id, is kept of the first of them."""
    first: dict[str, str] = {}
    return [r for r in records if r.id not in exclude and first.setdefault(r.id, r.source) == r.source]
