"""The choice of the models: by the settings, else by the saved choice of the user, else by the manifest's defaults."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from posewire.config import Settings
from posewire.errors import ModelError
from posewire.files import make_folder, write_atomically
from posewire.registry.manifest import NO_PAIR, Manifest, Pair
from posewire.registry.specs import DetectorSpec, PoseSpec


@dataclass(frozen=True, slots=True)
class Choice:
    """A detector and a pose model, and the name of the pair that both are of; None: they are not a pair."""

    detector: DetectorSpec
    pose: PoseSpec
    pair: str | None

    def pin(self, settings: Settings) -> Settings:
        """Return settings that name these models, so that a later change of the saved choice has no effect."""
        return settings.model_copy(update={"detector": self.detector.name, "pose": self.pose.name})


def choose(settings: Settings, manifest: Manifest) -> Choice:
    """Resolve which models serve.

    For each of the two, `settings.detector` and `settings.pose` win. Then comes the pair of `settings.models`, then the pair
    that the user saved with `posewire models use`, then the manifest's defaults.

    Args:
        settings: of the service or the command.
        manifest: lists the models and the pairs.

    Raises:
        ModelError: a model or pair does not exist, or a model must be pulled first; the message names the remedy.
    """
    name, pair = _pair(settings, manifest)
    names = pair or manifest.defaults
    detector = manifest.get(settings.detector or names.detector, "detector")
    pose = manifest.get(settings.pose or names.pose, "pose")
    whole = pair is not None and (detector.name, pose.name) == (pair.detector, pair.pose)
    return Choice(detector, pose, name if whole else None)


def saved_choice(settings: Settings) -> str | None:
    """Return the name of the pair that the user saved; None: there is none.

    Raises:
        ModelError: the file of the choice is damaged.
    """
    path = choice_file(settings)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:  # also if this user cannot read the folders above
        return None
    except ValueError:  # TOMLDecodeError, or not UTF-8
        content = {}
    pair = content.get("pair")
    if not isinstance(pair, str):
        raise ModelError(f"{path}: not a choice of models; {_REMEDY}")
    return pair


def save_choice(settings: Settings, pair: str) -> None:
    """Save a pair for this user.

    Raises:
        PosewireError: the file cannot be written.
    """
    path = choice_file(settings)
    make_folder(path.parent)
    write_atomically(path, f"# Written by `posewire models use`.\n{tomli_w.dumps({'pair': pair})}".encode())


def forget_choice(settings: Settings) -> None:
    """Delete the saved choice, if there is one.

    Raises:
        ModelError: the file cannot be removed.
    """
    path = choice_file(settings)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be removed: {error.strerror}") from None


def choice_file(settings: Settings) -> Path:
    """Return the path of the file of the saved choice."""
    return settings.cache_dir / "models" / "use.toml"


_REMEDY = f"choose again with `posewire models use NAME`, or forget the choice with `posewire models use {NO_PAIR}`"


def _pair(settings: Settings, manifest: Manifest) -> tuple[str | None, Pair | None]:
    if settings.models:
        return settings.models, manifest.pair(settings.models)
    if settings.detector and settings.pose:
        return None, None
    saved = saved_choice(settings)
    if saved is None:
        return None, None
    try:
        return saved, manifest.pair(saved)
    except ModelError as error:
        raise ModelError(f"{choice_file(settings)}: {error}; {_REMEDY}") from None
