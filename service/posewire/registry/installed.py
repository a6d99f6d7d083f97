"""The folder of installed models, which `posewire models pull` fills: weights, cards, and a manifest, which is written last."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import tomli_w

from posewire.files import make_folder, write_atomically
from posewire.registry.manifest import Additions
from posewire.registry.sources import Source, shown
from posewire.registry.specs import Download, ModelSpec, PoseModel
from posewire.registry.store import MANIFEST, installed_models

_HEADER: Final = "# Made by `posewire models pull`: these models are served beside those that ship. Without [defaults].\n"
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
    manifest = manifest_text((*(other for other in installed_models(root) if other.name != name), spec))
    for path, content in (*contents.items(), (MANIFEST, manifest.encode())):
        make_folder((root / path).parent)
        write_atomically(root / path, content)
    return spec


def _stored(path: str, content: bytes) -> dict[str, object]:
    return {"file": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def manifest_text(specs: tuple[ModelSpec, ...]) -> str:
    """Return a manifest of these models, in TOML."""
    models = [spec.model_dump(mode="json", exclude_none=True) for spec in specs]
    for facts, spec in zip(models, specs, strict=True):
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
