"""`posewire models`: what is in the store."""

import json

from rich.console import Console
from rich.table import Table

from posewire.config import Settings
from posewire.errors import ModelError
from posewire.models.manifest import Manifest, ModelSpec
from posewire.models.store import ModelStore


def list_models(settings: Settings, *, as_json: bool) -> int:
    """Print every model of the manifest."""
    manifest = ModelStore(settings.model_store).manifest
    if as_json:
        print(json.dumps([_facts(spec, manifest) for spec in manifest.models], indent=2))
        return 0
    table = Table("name", "task", "input", "size", "licence", "accuracy")
    for spec in manifest.models:
        accuracy = "\n".join(f"{a.metric} {a.value:g} on {a.dataset}" for a in spec.accuracy)
        star = " *" if _is_default(spec, manifest) else ""
        size = f"{spec.input.height}x{spec.input.width}"
        table.add_row(spec.name + star, spec.task, size, f"{spec.bytes / 1e6:.1f} MB", spec.licence, accuracy)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or a pipe has no width: nothing is cut
    console.print(table)
    console.print("* serves by default")
    return 0


def verify_models(settings: Settings, names: list[str], *, as_json: bool) -> int:
    """Check model files against the manifest; 1 when one is missing or damaged."""
    store = ModelStore(settings.model_store)
    specs = [store.manifest.get(name) for name in names] or list(store.manifest.models)
    found = [(spec.name, _verdict(store, spec)) for spec in specs]
    if as_json:
        print(json.dumps([{"name": name, "ok": fault is None, "fault": fault} for name, fault in found], indent=2))
    else:
        for name, fault in found:
            print(f"{name}: {fault or 'ok'}")
    return int(any(fault for _, fault in found))


def _verdict(store: ModelStore, spec: ModelSpec) -> str | None:
    try:
        store.verify(spec)
    except ModelError as error:
        return str(error)
    return None


def _is_default(spec: ModelSpec, manifest: Manifest) -> bool:
    return spec.name in (manifest.defaults.detector, manifest.defaults.pose)


def _facts(spec: ModelSpec, manifest: Manifest) -> dict[str, object]:
    facts: dict[str, object] = spec.model_dump(mode="json")
    return facts | {"default": _is_default(spec, manifest)}
