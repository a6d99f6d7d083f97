"""`posewire models add` and `models remove`: a user's ONNX file becomes a model that can be served, and goes again."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from posewire.cli.tables import print_table
from posewire.config import Settings
from posewire.errors import ModelError
from posewire.registry.installed import exclusive, remove
from posewire.registry.store import open_store
from posewire.tools.adding.adding import Added, Place, add
from posewire.tools.adding.recognising import Given
from posewire.tools.adding.trial import SAMPLE


def add_model(file: Path, given: Given, place: Place, settings: Settings, image: Path | None, drawn: Path, *, as_json: bool) -> int:
    """Add a model; print what it is and how that is known. Return 2 if something must be asked.

    Raises:
        PosewireError: as `add`.
    """
    added = add(file, given, place, open_store(settings), settings, image or SAMPLE, drawn)
    if as_json:
        print(json.dumps(_as_json(added, drawn), indent=2))
    else:
        print_table(("what", "value", "how it is known"), [(fact.what, fact.value, fact.how) for fact in added.recognised.facts])
    if added.recognised.missing:
        if not as_json:
            print()
        print(f"posewire: {file} is not added; this cannot be told from the file. Say it with:", file=sys.stderr)
        for option, why in added.recognised.missing.items():
            print(f"  {option:<15} {why}", file=sys.stderr)
        return 2
    assert added.spec is not None
    assert added.trial is not None
    if not as_json:
        name, task = added.spec.name, added.spec.task
        print(f"\n{added.trial.summary}: look at {drawn}")
        print(f"added to {place.root}")
        print(f"serve it with {_store_variable(settings, place)}POSEWIRE_{task.upper()}={name}")
        print(f"take it back with posewire models remove {name}")
    return 0


def remove_model(settings: Settings, name: str, folder: Path | None) -> int:
    """Remove a model that was pulled or added.

    Raises:
        PosewireError: it ships, there is no such model, or the folder cannot be written.
    """
    store = open_store(settings)
    root = folder or store.installed_root or settings.cache_dir / "models"
    if folder is None and any(spec.name == name and not store.is_installed(spec) for spec in store.manifest.models):
        raise ModelError(f"{name!r} is one of the store's own, which cannot be removed")
    if not root.is_dir():
        raise ModelError(f"{root} has no models")
    with exclusive(root):
        remove(root, name)
    print(f"{name} is removed from {root}")
    return 0


def _store_variable(settings: Settings, place: Place) -> str:
    return "" if place.root == settings.cache_dir / "models" else f"POSEWIRE_MODEL_STORE={place.root} "


def _as_json(added: Added, drawn: Path) -> dict[str, object]:
    facts: dict[str, object] = {"facts": [asdict(fact) for fact in added.recognised.facts], "missing": added.recognised.missing}
    if added.spec is not None and added.trial is not None:
        facts |= {"name": added.spec.name, "task": added.spec.task, "found": added.trial.summary, "drawn": str(drawn)}
    return facts
