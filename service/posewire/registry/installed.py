"""The folder that `posewire models pull` fills: weights, cards, and a manifest that is written last."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from posewire.errors import ModelError
from posewire.files import make_folder, write_atomically
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.registry.manifest import Additions
from posewire.registry.sources import Source, shown
from posewire.registry.specs import Download, ModelSpec, PoseModel
from posewire.registry.store import MANIFEST, pulled_models

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


def keep(root: Path, download: Download, source: Source, weights: bytes, kernels: bytes | None = None) -> ModelSpec:
    """Add a model to the folder, or put it in the place of the one of its name.

    Args:
        root: the folder.
        download: what was pulled.
        source: where it came from.
        weights: the ONNX file to serve.
        kernels: the same for Posewire's kernels, where they can run it.

    Raises:
        PosewireError: the folder cannot be written; the manifest in it is as it was.
    """
    name = download.model.name
    files: dict[str, object] = {**_stored(f"weights/{name}.onnx", weights), "card": f"cards/{name}.md"}
    contents = {f"weights/{name}.onnx": weights, f"cards/{name}.md": _card(download, source).encode()}
    if kernels is not None:
        files["kernels"] = _stored(f"weights/{name}.safetensors", kernels)
        contents[f"weights/{name}.safetensors"] = kernels
    model = download.model.model_dump(mode="json")
    if isinstance(download.model, PoseModel):
        model["keypoints"] = _keypoints(download.model)
    (spec,) = Additions.model_validate({"models": [model | files]}).models
    manifest = manifest_text((*(other for other in pulled_models(root) if other.name != name), spec))
    for path, content in (*contents.items(), (MANIFEST, manifest.encode())):
        make_folder((root / path).parent)
        write_atomically(root / path, content)
    return spec


def _stored(path: str, content: bytes) -> dict[str, object]:
    return {"file": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def manifest_text(specs: tuple[ModelSpec, ...]) -> str:
    """A manifest of these models, in TOML.

    Raises:
        ModelError: what was written does not read as the models; a fault of this function.
    """
    text = _HEADER
    for spec in specs:
        facts = spec.model_dump(mode="json", exclude_none=True)
        if isinstance(spec, PoseModel):
            facts["keypoints"] = _keypoints(spec)
        text += "\n[[models]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in facts.items())
    if Additions.model_validate(tomllib.loads(text)).models != specs:
        raise ModelError(f"{MANIFEST}: what was written does not read as it should; this is a fault of Posewire")
    return text


def toml(value: object) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    # Strings, numbers and truth values are JSON's, but for a character that JSON leaves alone.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _keypoints(model: PoseModel) -> str:
    return next(name for name, known in KEYPOINT_SETS.items() if known is model.keypoints)


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
