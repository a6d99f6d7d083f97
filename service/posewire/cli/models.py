"""`posewire models`: list, show and verify the models of the store and those that can be pulled."""

import json
import re
from collections.abc import Mapping

from posewire.cli.pairs import print_pairs
from posewire.cli.tables import print_table
from posewire.config import Settings
from posewire.errors import ModelError
from posewire.registry.specs import DetectorModel, Download, ModelSpec, PoseModel
from posewire.registry.store import ModelStore, open_store


def list_models(settings: Settings, *, as_json: bool) -> int:
    """Print every model of the manifest and every one that can be pulled, a line each, and the pairs."""
    store = open_store(settings)
    models = [*store.manifest.models, *_not_pulled(store)]
    if as_json:
        print(json.dumps([_facts(model, store) for model in models], indent=2))
        return 0
    rows = [_row(entry, store) for entry in models]
    print_table(("name", "task", "input", "AP", "MB", "state", "what AP is"), rows, numbers=("AP", "MB"), optional=True)
    print("* a default of the manifest; `posewire models show NAME` has all of a model")
    if store.manifest.pairs:
        print()
        print_pairs(settings, store.manifest)
    return 0


def _row(entry: ModelSpec | Download, store: ModelStore) -> tuple[str, ...]:
    """Return the columns of one model; what is not known is a dash."""
    model = _model(entry)
    accuracy = next((found for found in model.accuracy if re.search(r"\bAP\b", found.metric)), None)
    return (
        model.name + (" *" if _is_default(model.name, store) else ""),
        model.task,
        f"{model.input.height}x{model.input.width}",
        f"{accuracy.value:.3f}" if accuracy else "-",
        f"{total / 1e6:.1f}" if (total := _bytes(entry)) else "-",
        _state(entry, store),
        accuracy.metric if accuracy else "-",
    )


def show_model(settings: Settings, name: str, *, as_json: bool) -> int:
    """Print all data of one model.

    Raises:
        ModelError: the manifest does not have it; the message names all models.
    """
    store = open_store(settings)
    entries = {_model(entry).name: entry for entry in (*store.manifest.models, *_not_pulled(store))}
    if name not in entries:
        raise ModelError(f"{name!r} is not a model of the manifest; known: {', '.join(entries)}")
    facts = _facts(entries[name], store)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        for line in _lines(facts):
            print(line)
    return 0


def verify_models(settings: Settings, names: list[str], *, as_json: bool) -> int:
    """Compare model files with the manifest; return 1 if one is missing or damaged."""
    store = open_store(settings)
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


def _not_pulled(store: ModelStore) -> list[Download]:
    here = {spec.name for spec in store.manifest.models}
    return [download for download in store.manifest.downloads if download.model.name not in here]


def _model(entry: ModelSpec | Download) -> PoseModel | DetectorModel:
    return entry.model if isinstance(entry, Download) else entry


def _bytes(entry: ModelSpec | Download) -> int | None:
    """Return the size of the ONNX file, or of all files to download; None if it is unknown."""
    sizes = [file.bytes for file in entry.files] if isinstance(entry, Download) else [entry.bytes]
    return None if None in sizes else sum(size for size in sizes if size)


def _state(entry: ModelSpec | Download, store: ModelStore) -> str:
    if isinstance(entry, Download):
        return "can be pulled"
    if not store.is_installed(entry):
        return "shipped"
    return "pulled" if store.is_pulled(entry) else "added"


def _is_default(name: str, store: ModelStore) -> bool:
    return name in (store.manifest.defaults.detector, store.manifest.defaults.pose)


def _facts(entry: ModelSpec | Download, store: ModelStore) -> dict[str, object]:
    model = _model(entry)
    facts: dict[str, object] = model.model_dump(mode="json")
    facts |= {"state": _state(entry, store), "default": _is_default(model.name, store)}
    facts["pairs"] = [name for name, pair in store.manifest.pairs.items() if model.name in (pair.detector, pair.pose)]
    if not isinstance(entry, Download):
        facts["path"] = str(store.path(entry))
    for download in store.manifest.downloads:
        if download.model.name == model.name:
            facts["download"] = download.model_dump(mode="json", exclude={"model"}, exclude_none=True)
    return facts


def _lines(facts: Mapping[str, object], indent: str = "") -> list[str]:
    width = max(map(len, facts))
    lines = []
    for key, value in facts.items():
        head = f"{indent}{key:<{width}}  "
        rows = value if isinstance(value, list) and any(isinstance(item, dict) for item in value) else [value]
        for row in rows:
            if isinstance(row, dict):
                lines += [head.rstrip(), *_lines(row, indent + "  ")]
            elif isinstance(row, list):
                lines.append(head + ", ".join(map(str, row)))
            else:
                lines.append(f"{head}{row}")
    return lines
