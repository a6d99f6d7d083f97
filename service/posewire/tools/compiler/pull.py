"""Pull a model: download its files, verify them, compile a checkpoint or an IR, and install the model."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from posewire.errors import PosewireError
from posewire.files import make_folder
from posewire.pipeline.heads.keypoints import KeypointOutput
from posewire.registry.download import Part, fetch
from posewire.registry.installed import exclusive, install
from posewire.registry.manifest import Manifest
from posewire.registry.networks.litehrnet.spec import get_variant
from posewire.registry.sources import Source, shown, source_of
from posewire.registry.specs import Download, ModelSpec, PoseModel
from posewire.registry.store import installed_models
from posewire.registry.unpack import unpack
from posewire.tools.compiler.compiling import compile_published_detector, compile_state, kernel_state, read_state, require_compiler
from posewire.tools.compiler.litehrnet.options import GraphOptions

# The name of the file, the bytes received, and the total; None: unknown.
FileReport: TypeAlias = Callable[[str, int, int | None], None]


def _silent(_file: str, _received: int, _total: int | None) -> None:
    """Report nothing."""


def pull(name: str, manifest: Manifest, root: Path, *, mirror: str | None = None, report: FileReport = _silent) -> ModelSpec:
    """Install a model in a folder, by name; a model that is installed and undamaged is not downloaded again.

    The folder's manifest is written last: a model is installed completely or not at all. After a lost connection or Ctrl-C,
    `NAME.part`, and `NAME.weights.part` of an IR, stay; the next pull resumes from them.

    Args:
        name: of a download of the manifest.
        manifest: lists the downloads.
        root: the folder; created if it is missing.
        mirror: as in `source_of`.
        report: called for each file, as `FileReport` says.

    Raises:
        PosewireError: the model cannot be pulled; the message is one line with the reason and the remedy.
    """
    download = manifest.download(name)
    source = source_of(download, mirror)
    if download.variant is not None:
        require_compiler()
    make_folder(root)
    with exclusive(root):
        installed = _find_undamaged(name, root)
        if installed is not None:
            return installed
        parts = [Part(root / f"{name}{ending}") for ending in (".part", ".weights.part")][: len(download.files)]
        _fetch_all(download, mirror, parts, report)
        try:
            spec = install(root, download, source, *_weights(download, source, *(part.path for part in parts)))
        except PosewireError:
            _discard(parts)  # resuming would not help: the downloads are complete
            raise
        _discard(parts)
        return spec


def _fetch_all(download: Download, mirror: str | None, parts: list[Part], report: FileReport) -> None:
    for remote, part in zip(download.files, parts, strict=True):
        try:
            fetch(remote, source_of(remote, mirror), part, partial(report, remote.file_name))
        except PosewireError:
            if not part.size():
                _discard(parts)
            raise


def _discard(parts: list[Part]) -> None:
    for part in parts:
        part.discard()


def _find_undamaged(name: str, root: Path) -> ModelSpec | None:
    for spec in installed_models(root):
        if spec.name == name:
            return spec if all(_is_undamaged(root / stored.file, stored.sha256) for stored in spec.files) else None
    return None


def _is_undamaged(file: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def _weights(download: Download, source: Source, file: Path, ir_weights: Path | None = None) -> tuple[bytes, bytes | None]:
    """Return the ONNX file to serve, and the weights for Posewire's kernels if they can run the model."""
    if download.member is not None:
        return unpack(file.read_bytes(), download.member, shown(source)), None
    model = download.model
    if download.variant is None:
        return file.read_bytes(), None
    if not isinstance(model, PoseModel):
        return compile_published_detector(file, download.variant), None
    variant = get_variant(download.variant, len(model.keypoints.names))
    raw = model.input.format != "float32-nchw"
    options = GraphOptions(
        model.input.format,
        mean=model.input.mean if raw else None,
        std=model.input.std if raw else None,
        output="keypoints" if isinstance(model.output, KeypointOutput) else "heatmaps",
        sigma=model.output.sigma if isinstance(model.output, KeypointOutput) else None,
    )
    state = read_state(file, variant, ir_weights)
    return compile_state(state, variant, model.input.height, model.input.width, options), kernel_state(state, variant)
