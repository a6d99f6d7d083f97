"""Add a user's ONNX file to the installed models: recognise it, try it, install it."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from posewire.config import Settings
from posewire.errors import ModelError
from posewire.files import make_folder, read_plain, write_atomically
from posewire.imaging.decode import decode
from posewire.registry.installed import exclusive, install_own
from posewire.registry.specs import ModelSpec
from posewire.registry.store import ModelStore, installed_models
from posewire.tools.adding.graph import read_graph
from posewire.tools.adding.hints import Hints
from posewire.tools.adding.recognising import Given, Recognised, recognise
from posewire.tools.adding.trial import Trial, try_model

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXPORTED: Final = "end2end"  # the name of every file that mmdeploy exports
_NMS_IOU: Final = 0.65  # as of the detectors that ship
_NOT_STATED: Final = "not stated; ask its publisher"
_MAX_SET_BYTES: Final = 1 << 20
_CARD: Final = """# {name}

Added {date} by `posewire models add` from {file}, SHA-256 {sha256}.

| What | Value | How it is known |
|---|---|---|
{rows}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model goes, and what it is called."""

    name: str | None  # None: that of the file
    root: Path  # the folder of installed models
    replace: bool  # a model of the same name there
    licence: str | None  # None: it is not stated


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """A model that is ready to be installed, or what is missing to it."""

    recognised: Recognised
    entry: Mapping[str, Any] | None = None  # None: something is missing
    trial: Trial | None = None
    spec: ModelSpec | None = None  # None: it was not installed


def check_name(file: Path, place: Place, store: ModelStore) -> str:
    """Return the name of a model.

    Raises:
        ModelError: it is no name, or another model has it.
    """
    name = file.stem if place.name is None else place.name
    if place.name is None and name == _EXPORTED:
        raise ModelError(f"{file}: mmdeploy names every file so; give the model a name with --name")
    if not _NAME.fullmatch(name):
        raise ModelError(f"{name!r} is no name of a model: letters, digits, '.', '_' and '-' are; give one with --name")
    taken = {spec.name for spec in store.manifest.models if not store.is_installed(spec)}
    if name in taken | {download.model.name for download in store.manifest.downloads}:
        raise ModelError(f"{name!r} is the name of a model that ships or can be pulled; choose another with --name")
    if not place.replace and any(spec.name == name for spec in installed_models(place.root)):
        raise ModelError(f"{name!r} is installed in {place.root} already; --replace replaces it, --name gives this one another name")
    return name


def add(file: Path, given: Given, place: Place, store: ModelStore, settings: Settings, image: Path, drawn: Path) -> Added:
    """Recognise a file, run it on an image, write the drawn image, and install the model.

    Nothing is written while something is missing. The manifest is written last.

    Args:
        file: ONNX.
        given: by the user.
        place: where the model goes.
        store: of the models that are known.
        settings: of the trial.
        image: to try the model on.
        drawn: target of the drawn image, JPEG.

    Raises:
        PosewireError: the file is not a model that can be served, the name is taken, or a file cannot be read or written.
    """
    name = check_name(file, place, store)
    graph = read_graph(file)
    frame = decode(read_plain(image, settings.max_bytes), max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
    found = recognise(graph, Hints.of(file, graph), given, frame.pixels)
    if found.missing:
        return Added(found)
    entry = _entry(name, found, place, file)
    keypoints = None if found.keypoints_file is None else read_plain(found.keypoints_file, _MAX_SET_BYTES)
    trial = try_model(entry, graph.content, keypoints, image, settings)
    make_folder(drawn.parent)
    write_atomically(drawn, trial.drawn)
    make_folder(place.root)
    with exclusive(place.root):
        check_name(file, place, store)  # somebody else may have been quicker
        spec = install_own(place.root, entry, graph.content, _card(name, found, file, graph.content), keypoints)
    return Added(found, entry, trial, spec)


def _entry(name: str, found: Recognised, place: Place, file: Path) -> dict[str, Any]:
    described = found.input
    size = f"{described['height']}x{described['width']}"
    entry: dict[str, Any] = {
        **{"name": name, "task": found.task, "licence": place.licence or _NOT_STATED, "input": described, "output": found.output},
        "provenance": {"made_by": "added by the user", "data": "not stated", "recipe": f"posewire models add {file.name}"},
    }
    if found.keypoints is None:
        return entry | {"title": f"{name}, {size}, detector of people", "nms_iou": _NMS_IOU}
    own = found.keypoints_file is not None
    return entry | {
        "title": f"{name}, {size}, {len(found.keypoints.names)} keypoints",
        "keypoints": f"keypoints/{name}.toml" if own else found.keypoints.name,
    }


def _card(name: str, found: Recognised, file: Path, content: bytes) -> str:
    rows = "\n".join(f"| {fact.what} | {fact.value} | {fact.how} |" for fact in found.facts)
    return _CARD.format(
        name=name, date=f"{datetime.now(UTC):%Y-%m-%d}", file=file.name, sha256=hashlib.sha256(content).hexdigest(), rows=rows
    )
