"""The keypoint sets of pose models: which point each channel is, and how the points belong together.

A set is a TOML file. Those that come with Posewire are in the folder `sets` beside this module; manifests have them by name. A set of
one's own lies beside a manifest, which has its path.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Final, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError, model_validator

from posewire.errors import ModelError
from posewire.files import UnreadableFile, read_plain

Colour: TypeAlias = tuple[int, int, int]  # RGB, 0..255

_FOLDER: Final = Path(__file__).parent / "sets"
# In the order in which `keypoint_set_of` tries them.
_NAMES: Final = ("coco-17", "mpii-16", "crowdpose-14", "hand-21", "halpe-26", "coco-wholebody-133")
_OLD_NAMES: Final = {"coco17": "coco-17", "mpii16": "mpii-16"}  # still read in manifests
_MAX_BYTES: Final = 1 << 20  # of a file
_MAX_KEYPOINTS: Final = 1000


@dataclass(frozen=True, slots=True)
class KeypointSet:
    """The keypoints of a pose model's channels. Indices count from 0."""

    names: tuple[str, ...]  # K, in the order of the channels
    flip_pairs: tuple[tuple[int, int], ...]  # (left, right) indices that are swapped in a mirrored image
    oks_sigmas: tuple[float, ...]  # K, COCO's spread of annotators for each keypoint, in units of the square root of the person's area
    skeleton: tuple[tuple[int, int], ...]  # pairs of indices to join when drawing
    name: str = ""  # as manifests have it; empty: it has no file
    file: str | None = None  # relative to the manifest that has it; None: it comes with Posewire
    colours: tuple[Colour | None, ...] = ()  # K; None: the colour of the keypoint's side. Empty: this is so for all
    small: tuple[int, ...] = ()  # indices of keypoints that lie close together, and are drawn smaller

    @property
    def reference(self) -> str:
        """The value of `keypoints` in a manifest: the name, or the path of the file."""
        return self.file or self.name

    @property
    def mirrored(self) -> tuple[int, ...]:
        """K indices: the keypoint that each one is in a mirrored image, with left and right exchanged."""
        order = list(range(len(self.names)))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)


Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^\P{C}+$")]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Hex: TypeAlias = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
Sigma: TypeAlias = Annotated[FiniteFloat, Field(gt=0)]


class KeypointSetFile(BaseModel):
    """The content of a file of a keypoint set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    about: Text
    keypoints: Annotated[tuple[Text, ...], Field(min_length=1, max_length=_MAX_KEYPOINTS)]  # in the order of the channels
    mirror: tuple[tuple[Text, Text], ...] = ()  # (left, right)
    skeleton: tuple[tuple[Text, Text], ...] = ()
    sigmas: Sigma | tuple[Sigma, ...]  # of COCO's object keypoint similarity; one number: of every keypoint
    sigmas_source: Text
    small: tuple[Text, ...] = ()
    colours: dict[Hex, tuple[Text, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_once("keypoints", self.keypoints)
        _require_once("mirror", chain.from_iterable(self.mirror))
        _require_once("colours", chain.from_iterable(self.colours.values()))
        known = set(self.keypoints)
        for key, names in (
            ("mirror", chain.from_iterable(self.mirror)),
            ("skeleton", chain.from_iterable(self.skeleton)),
            ("small", self.small),
            ("colours", chain.from_iterable(self.colours.values())),
        ):
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"{key}: {unknown[0]!r} is not one of the keypoints")
        if isinstance(self.sigmas, tuple) and len(self.sigmas) != len(self.keypoints):
            raise ValueError(f"sigmas: {len(self.sigmas)} numbers for {len(self.keypoints)} keypoints; one each, or one number for all")
        return self

    def to_set(self, file: str | None) -> KeypointSet:
        """Return the keypoint set; `file` is its path as a manifest has it, None for one that comes with Posewire."""
        at = {name: index for index, name in enumerate(self.keypoints)}
        colour_of = {name: _rgb(colour) for colour, names in self.colours.items() for name in names}
        return KeypointSet(
            names=self.keypoints,
            flip_pairs=tuple((at[left], at[right]) for left, right in self.mirror),
            oks_sigmas=self.sigmas if isinstance(self.sigmas, tuple) else (self.sigmas,) * len(at),
            skeleton=tuple((at[a], at[b]) for a, b in self.skeleton),
            name=self.name,
            file=file,
            colours=tuple(colour_of.get(name) for name in self.keypoints) if colour_of else (),
            small=tuple(at[name] for name in self.small),
        )


def load_keypoint_set(path: Path, file: str | None = None) -> KeypointSet:
    """Read and check the file of a keypoint set.

    Args:
        path: of the file.
        file: its path as the manifest has it; None: it comes with Posewire.

    Raises:
        ModelError: the file cannot be read, is not TOML, or a value is missing, unknown or wrong; one line with the file and the key.
    """
    try:
        content = tomllib.loads(read_plain(path, _MAX_BYTES).decode())
    except UnreadableFile as error:
        raise ModelError(f"{path}: the keypoint set {error.reason}") from None
    except ValueError as error:  # TOMLDecodeError, or not UTF-8
        raise ModelError(f"{path}: not valid TOML: {error}") from None
    try:
        return KeypointSetFile.model_validate(content).to_set(file)
    except ValidationError as error:
        # A mistyped key is both missing and unknown; the reader needs the name of the unknown one.
        fault = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in fault["loc"] if part not in ("constrained-float", "tuple[constrained-float, ...]"))
        reason = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
        raise ModelError(f"{path}: {f'{key}: ' if key else ''}{reason}") from None


def _rgb(colour: str) -> Colour:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _require_once(key: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{key}: {twice[0]!r} is there twice")


class _BuiltIn(Mapping[str, KeypointSet]):
    """The sets that come with Posewire, by their names; a file is read when it is needed for the first time."""

    def __init__(self) -> None:
        self._load = cache(lambda name: load_keypoint_set(_FOLDER / f"{name}.toml"))

    def __getitem__(self, name: str) -> KeypointSet:
        name = _OLD_NAMES.get(name, name)
        if name not in _NAMES:
            raise KeyError(name)
        return self._load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


KEYPOINT_SETS: Final[Mapping[str, KeypointSet]] = _BuiltIn()


def keypoint_set_of(names: Iterable[str]) -> KeypointSet:
    """Return the first keypoint set of Posewire that has all names; if there is none, a set of these names without limbs."""
    given = tuple(dict.fromkeys(names))
    known = next((known for known in KEYPOINT_SETS.values() if set(given) <= set(known.names)), None)
    return known or KeypointSet(names=given, flip_pairs=(), oks_sigmas=(), skeleton=())
