"""A network with what is to be served of it, staged in a store of its own so that it can be served and scored."""

from dataclasses import dataclass
from pathlib import Path

from model_store.release.entry import with_model
from model_store.release.request import Request, Weights, entry
from model_store.release.scoring import Scored, score
from posewire.files import make_folder
from posewire.registry.manifest import load_additions, load_manifest
from posewire.registry.store import MANIFEST, ModelStore


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A network with the files that are served of it."""

    request: Request
    store: Path  # the staged one
    weights: Weights
    scored: Scored


def compiled(request: Request, work: Path) -> Prepared:
    """The network as the compiler makes it, staged and scored."""
    weights = Weights(request.network.onnx(), request.network.kernels())
    store = stage(request, work, weights)
    return Prepared(request, store, weights, score(store, request.network.task, request.name, request.held_out))


def stage(request: Request, work: Path, weights: Weights) -> Path:
    """A store beside the true one, with the network and links to its other models."""
    staged = work / f"store{len(list(work.iterdir()))}"
    store = request.store
    for folder in ("weights", "cards"):
        make_folder(staged / folder)
    for kind, content in (*weights.items(), ("card", b"")):
        (staged / request.files[kind]).write_bytes(content)
    text = manifest_of(store)
    (staged / MANIFEST).write_text(with_model(text, entry(request, weights, []), default=request.default))
    for spec in ModelStore(store).manifest.models if text else ():
        for path in (stored.file for stored in spec.files):
            if (store / path).exists() and not (staged / path).exists():
                make_folder((staged / path).parent)
                (staged / path).symlink_to((store / path).resolve())
    return staged


def manifest_of(store: Path) -> str | None:
    """The text of the store's manifest, which is valid; None: there is none yet.

    Raises:
        ModelError: it is not valid.
    """
    path = store / MANIFEST
    if not path.exists():
        return None
    if load_additions(path) is None:
        load_manifest(path)
    return path.read_text()
