"""The folder of installed models, which `posewire models pull` and `models add` fill.

It has weights, cards, keypoint sets, and a manifest, which is written last: a model is installed completely or not at all.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import tomli_w
from filelock import FileLock, Timeout

from posewire.errors import ModelError
from posewire.files import make_folder, write_atomically
from posewire.registry.manifest import Additions, check_additions
from posewire.registry.sources import Source, shown
from posewire.registry.specs import Download, ModelSpec, PoseModel
from posewire.registry.store import MANIFEST, installed_models

_HEADER: Final = "# Made by `posewire models pull` and `models add`: these models are served beside those that ship. Without [defaults].\n"
_CARD: Final = """# {name}

{title}

- Licence: {licence}
- Made by: {made_by}
- Data: {data}
- Recipe: {recipe}
- Pulled {date} from {source}; {address} in the manifest, {proof}
- {done}

Its input, output and published accuracy: `posewire models show {name}`.
"""


def install(root: Path, download: Download, source: Source, weights: bytes, kernels: bytes | None = None) -> ModelSpec:
    """Add a model to the folder; a model of the same name is replaced.

    Args:
        root: the folder.
        download: of the model.
        source: of the downloaded file.
        weights: the ONNX file to serve.
        kernels: the weights for Posewire's kernels, if they can run it.

    Raises:
        PosewireError: the folder cannot be written; its manifest does not change.
    """
    name = download.model.name
    files: dict[str, object] = {**_stored(f"weights/{name}.onnx", weights), "card": f"cards/{name}.md"}
    contents = {f"weights/{name}.onnx": weights, f"cards/{name}.md": _card(download, source).encode()}
    if kernels is not None:
        files["kernels"] = _stored(f"weights/{name}.safetensors", kernels)
        contents[f"weights/{name}.safetensors"] = kernels
    model = download.model.model_dump(mode="json")
    if isinstance(download.model, PoseModel):
        model["keypoints"] = download.model.keypoints.reference
    (spec,) = Additions.model_validate({"models": [model | files]}).models
    _write(root, spec, contents)
    return spec


def install_own(root: Path, entry: Mapping[str, object], weights: bytes, card: str, keypoints: bytes | None = None) -> ModelSpec:
    """Add a user's model to the folder; a model of the same name is replaced.

    Args:
        root: the folder.
        entry: of the manifest, without the files.
        weights: the ONNX file to serve.
        card: the model card, Markdown.
        keypoints: the file of the keypoint set that `entry` has the path of; None: its set comes with Posewire.

    Raises:
        PosewireError: the entry is not valid, or the folder cannot be written; its manifest does not change.
    """
    name = str(entry["name"])
    contents = {f"weights/{name}.onnx": weights, f"cards/{name}.md": card.encode()}
    if keypoints is not None:
        contents[str(entry["keypoints"])] = keypoints
        make_folder((root / str(entry["keypoints"])).parent)
        write_atomically(root / str(entry["keypoints"]), keypoints)
    whole = {**entry, **_stored(f"weights/{name}.onnx", weights), "card": f"cards/{name}.md"}
    (spec,) = check_additions(root / MANIFEST, {"models": [whole]}).models
    _write(root, spec, contents)
    return spec


def remove(root: Path, name: str) -> ModelSpec:
    """Remove a model from the folder, and its files that no other model there has.

    Raises:
        ModelError: the folder has no such model.
        PosewireError: the manifest cannot be written.
    """
    specs = installed_models(root)
    removed = next((spec for spec in specs if spec.name == name), None)
    if removed is None:
        known = ", ".join(spec.name for spec in specs)
        raise ModelError(f"{root} has no model {name!r}; it has {known or 'none'}")
    others = tuple(spec for spec in specs if spec is not removed)
    write_atomically(root / MANIFEST, manifest_text(others).encode())
    for path in _files(removed) - {path for spec in others for path in _files(spec)}:
        with suppress(OSError):
            (root / path).unlink()
    return removed


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold a lock on the folder: two at work there would write to the same files, and lose manifest entries.

    Raises:
        ModelError: another has the lock, or it cannot be made.
    """
    lock = FileLock(root / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ModelError(f"{root}: another pull is at work there; wait for it") from None
    except OSError as error:
        raise ModelError(f"{lock.lock_file}: cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def _write(root: Path, spec: ModelSpec, contents: Mapping[str, bytes]) -> None:
    manifest = manifest_text((*(other for other in installed_models(root) if other.name != spec.name), spec))
    for path, content in (*contents.items(), (MANIFEST, manifest.encode())):
        make_folder((root / path).parent)
        write_atomically(root / path, content)


def _files(spec: ModelSpec) -> set[str]:
    """Return the paths of all files of a model."""
    files = {spec.card, *(stored.file for stored in spec.files)}
    return files | {spec.keypoints.file} if isinstance(spec, PoseModel) and spec.keypoints.file else files


def _stored(path: str, content: bytes) -> dict[str, object]:
    return {"file": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def manifest_text(specs: tuple[ModelSpec, ...]) -> str:
    """Return a manifest of these models, in TOML."""
    models = [spec.model_dump(mode="json", exclude_none=True) for spec in specs]
    for facts, spec in zip(models, specs, strict=True):
        if not spec.output.outputs:
            del facts["output"]["outputs"]
        if isinstance(spec, PoseModel):
            facts["keypoints"] = spec.keypoints.reference
    return f"{_HEADER}\n{tomli_w.dumps({'models': models})}"


def _card(download: Download, source: Source) -> str:
    model = download.model
    served = "Served as it was published"
    if download.variant:
        kind = "an OpenVINO IR" if download.weights else "a checkpoint"
        served = f"Compiled by Posewire for {model.input.height}x{model.input.width}, from {kind} of {download.variant}"
    return _CARD.format(
        name=model.name,
        title=model.title,
        licence=model.licence,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        source=shown(source),
        address=download.address,
        proof=_proof(download),
        done=served,
        **model.provenance.model_dump(),
    )


def _proof(download: Download) -> str:
    archive = f"SHA-256 {download.digest}" if download.digest else ""
    member = f"of it {download.member.name}, SHA-256 {download.member.sha256}" if download.member else ""
    weights = f"its weights {download.weights.address}, SHA-256 {download.weights.digest}" if download.weights else ""
    return "; ".join(filter(None, (archive, member, weights)))
