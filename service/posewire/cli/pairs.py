"""`posewire models use`: choose a pair of a detector and a pose model."""

from posewire.cli.tables import print_table
from posewire.config import Settings
from posewire.errors import ModelError
from posewire.registry.choice import choice_file, choose, forget_choice, save_choice
from posewire.registry.manifest import NO_PAIR, Manifest
from posewire.registry.store import open_store


def show_pairs(settings: Settings) -> int:
    """Print the pairs, the one in use, and the models that serve; return 1 if the choice cannot be served."""
    return int(not print_pairs(settings, open_store(settings).manifest))


def print_pairs(settings: Settings, manifest: Manifest) -> bool:
    """Print a table of the pairs, and the models that serve or the reason why they cannot; return True if they can."""
    pair: str | None = None
    try:
        choice = choose(settings, manifest)
    except ModelError as error:
        words, can_serve = f"no models can serve: {error}", False
    else:
        pair = choice.pair
        words, can_serve = f"{'* in use' if pair else 'no pair is in use'}: {choice.detector.name} and {choice.pose.name} serve", True
    _print_table(manifest, pair)
    print(words)
    return can_serve


def use_pair(settings: Settings, name: str) -> int:
    """Store a pair as the choice of this user, or remove the choice.

    Raises:
        PosewireError: the pair does not exist, one of its models must be pulled first, or the file cannot be written.
    """
    if name == NO_PAIR:
        forget_choice(settings)
        print("forgotten: the manifest's defaults serve")
    else:
        asked = settings.model_copy(update={"models": name, "detector": None, "pose": None})
        choice = choose(asked, open_store(settings).manifest)
        save_choice(settings, name)
        print(f"{name}: {choice.detector.name} and {choice.pose.name}; kept in {choice_file(settings)}")
    stronger = [f"POSEWIRE_{key.upper()}={value}" for key in ("models", "detector", "pose") if (value := getattr(settings, key))]
    if stronger:
        print(f"{' and '.join(stronger)} of the environment wins over it")
    return 0


def _print_table(manifest: Manifest, in_use: str | None) -> None:
    """Print a row for each pair; a star marks the one in use."""
    here = {spec.name for spec in manifest.models}
    rows = []
    for name, pair in manifest.pairs.items():
        models = (model if model in here else f"{model} (can be pulled)" for model in (pair.detector, pair.pose))
        rows.append((name + (" *" if name == in_use else ""), *models, pair.about))
    print_table(("pair", "detector", "pose", "for whom"), rows)
