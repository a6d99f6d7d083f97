"""`manifest.toml`: the description of every model, with its size, colours and files.

A new model needs a new entry and no code.
"""

import tomllib
from pathlib import Path
from typing import Literal, Self, TypeVar, overload

from pydantic import Field, ValidationError, model_validator

from posewire.errors import ModelError
from posewire.registry.specs import DetectorSpec, Download, Entry, ModelSpec, Name, PoseSpec, Task, Text

NO_PAIR = "default"  # stands for the manifest's defaults in `posewire models use`; no pair has this name


class Defaults(Entry):
    """The names of the models that serve if the settings name none."""

    detector: Name
    pose: Name


class Pair(Entry):
    """A detector and a pose model that are chosen together, by one name. They may have to be pulled first."""

    detector: Name
    pose: Name
    about: Text  # its purpose, one line


class Additions(Entry):
    """Models that are served beside those of another manifest."""

    models: tuple[ModelSpec, ...] = ()

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        _require_one_each("models", [spec.name for spec in self.models])
        return self


class Manifest(Entry):
    """Every model that can be served, and those that can be pulled."""

    defaults: Defaults
    pairs: dict[Name, Pair] = Field(default_factory=dict)
    models: tuple[ModelSpec, ...]
    downloads: tuple[Download, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [spec.name for spec in self.models]
        _require_one_each("models", names)
        _require_one_each("downloads", [download.model.name for download in self.downloads], names)
        tasks: tuple[Task, ...] = ("detector", "pose")
        for task in tasks:
            try:
                self.default(task)
            except ModelError as error:
                raise ValueError(f"defaults.{task}: {error}") from None
        if NO_PAIR in self.pairs:
            raise ValueError(f"pairs.{NO_PAIR}: this name stands for the manifest's [defaults]; give the pair another")
        known = {(model.task, model.name) for model in (*self.models, *(download.model for download in self.downloads))}
        for name, pair in self.pairs.items():
            for task, chosen in (("detector", pair.detector), ("pose", pair.pose)):
                if (task, chosen) not in known:
                    raise ValueError(f"pairs.{name}.{task}: {chosen!r} is not a {task} model of the manifest")
        return self

    @overload
    def get(self, name: str, task: None = None) -> ModelSpec: ...
    @overload
    def get(self, name: str, task: Literal["pose"]) -> PoseSpec: ...
    @overload
    def get(self, name: str, task: Literal["detector"]) -> DetectorSpec: ...
    @overload
    def get(self, name: str, task: Task | None) -> ModelSpec: ...

    def get(self, name: str, task: Task | None = None) -> ModelSpec:
        """Return the model of that name, which must be of `task` if one is given.

        Raises:
            ModelError: there is none, or it is of another task; the message names the known ones.
        """
        fitting = {spec.name: spec for spec in self.models if task in (None, spec.task)}
        if name in fitting:
            return fitting[name]
        if any(download.model.name == name for download in self.downloads):
            raise ModelError(f"{name!r} is not here yet; fetch it with `posewire models pull {name}`")
        kind = f"{task} model" if task else "model"
        raise ModelError(f"{name!r} is not a {kind} of the manifest; known: {', '.join(fitting) or 'none'}")

    @overload
    def default(self, task: Literal["pose"]) -> PoseSpec: ...
    @overload
    def default(self, task: Literal["detector"]) -> DetectorSpec: ...
    @overload
    def default(self, task: Task) -> ModelSpec: ...

    def default(self, task: Task) -> ModelSpec:
        """Return the model of `task` that serves if the settings name none."""
        return self.get(self.defaults.pose if task == "pose" else self.defaults.detector, task)

    def pair(self, name: str) -> Pair:
        """Return the pair of that name.

        Raises:
            ModelError: there is none; the message names the known ones.
        """
        if name not in self.pairs:
            raise ModelError(f"{name!r} is not a pair of the manifest; known: {', '.join(self.pairs) or 'none'}")
        return self.pairs[name]

    def download(self, name: str) -> Download:
        """Return the download of the model of that name.

        Raises:
            ModelError: the model ships, or there is no such download; the message names the known ones.
        """
        known = {download.model.name: download for download in self.downloads}
        if name in known:
            return known[name]
        if any(spec.name == name for spec in self.models):
            raise ModelError(f"{name!r} is here already: it is one of the store's own")
        raise ModelError(f"{name!r} is not a model that can be pulled; known: {', '.join(known) or 'none'}")


def load_manifest(path: Path) -> Manifest:
    """Read and check a `manifest.toml`.

    Raises:
        ModelError: the file cannot be read, is not TOML, or a value is missing, unknown or wrong. The message is one
            line with the file, the key and the fault.
    """
    return _valid(path, _read(path), Manifest)


def load_additions(path: Path) -> Additions | None:
    """Read and check a `manifest.toml` without `[defaults]`; None: it has them, and is a complete manifest.

    Raises:
        ModelError: as `load_manifest`.
    """
    content = _read(path)
    return None if "defaults" in content else _valid(path, content, Additions)


def check_additions(path: Path, content: dict[str, object]) -> Additions:
    """Check the content of a manifest without `[defaults]` that is to be written to `path`.

    Raises:
        ModelError: as `load_manifest`.
    """
    return _valid(path, content, Additions)


def _require_one_each(key: str, names: list[str], taken: list[str] | None = None) -> None:
    for index, name in enumerate(names):
        if name in names[:index] or name in (taken or ()):
            raise ValueError(f"{key}[{index}].name: {name!r} is there twice")


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as handle:
            return tomllib.load(handle)
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such manifest") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError, or not UTF-8
        raise ModelError(f"{path}: not valid TOML: {error}") from None


Kind = TypeVar("Kind", Manifest, Additions)


def _valid(path: Path, content: dict[str, object], kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate(content, context=path.parent)
    except ValidationError as error:
        raise ModelError(f"{path}: {_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    # A mistyped key is both missing and unknown; the reader needs the name of the unknown one.
    fault = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key, task_at = "", _task_at(fault["loc"])
    for position, part in enumerate(fault["loc"]):
        if isinstance(part, int):
            key += f"[{part}]"
        elif position != task_at:
            key += f".{part}" if key else part
    reason = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
    return f"{key}: {reason}" if key else reason


def _task_at(location: tuple[int | str, ...]) -> int | None:
    """Return the index at which pydantic inserts the task, which selects the class, into the location of a fault."""
    if location[:1] == ("models",):
        return 2
    return 3 if location[2:3] == ("model",) else None
