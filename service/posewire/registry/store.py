"""The folder of models: its location, and the verification of weights before use."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Final

from posewire.config import Settings
from posewire.errors import ModelError
from posewire.registry.manifest import load_additions, load_manifest
from posewire.registry.specs import ModelSpec, WeightsFile

MANIFEST: Final = "manifest.toml"
_PACKAGE: Final = Path(__file__).resolve().parents[1]
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


def default_root(package: Path = _PACKAGE) -> Path:
    """Return the folder of the models that ship with Posewire.

    Args:
        package: folder of the package `posewire`, of a wheel or of a checkout (`service/posewire`).

    Raises:
        ModelError: neither the package nor the checkout has a manifest.
    """
    candidates = (package / "_model_store", package.parents[1] / "model_store")
    for root in candidates:
        if (root / MANIFEST).is_file():
            return root
    roots = " nor ".join(str(root) for root in candidates)
    raise ModelError(
        f"no models: neither {roots} has a {MANIFEST}; reinstall posewire, or set POSEWIRE_MODEL_STORE to a folder that has one"
    )


class ModelStore:
    """A manifest and the files that it names."""

    def __init__(self, root: Path | None = None, installed: Path | None = None) -> None:
        """Read the manifests.

        Args:
            root: a folder with a manifest; None, or a manifest without `[defaults]`: the models that ship with Posewire.
            installed: the folder of `posewire models pull`, which may be missing; for a name in both, `root` wins.

        Raises:
            ModelError: there is no manifest in `root`, or one of the two is not valid.
        """
        if root is not None and load_additions(root / MANIFEST) is not None:
            root, installed = None, root
        self.root = default_root() if root is None else root
        self.installed_root = installed
        self.manifest = load_manifest(self.root / MANIFEST)
        own = {spec.name for spec in self.manifest.models}
        added = [spec for spec in installed_models(installed) if spec.name not in own] if installed else []
        self.manifest = self.manifest.model_copy(update={"models": (*self.manifest.models, *added)})
        self._installed = {spec.name: installed for spec in added if installed}

    def is_installed(self, spec: ModelSpec) -> bool:
        """Return True if the model is not one of the store's own."""
        return spec.name in self._installed

    def path(self, spec: ModelSpec) -> Path:
        """Return the path of the weights of `spec`; they may be missing."""
        return self._installed.get(spec.name, self.root) / spec.file

    def verify(self, spec: ModelSpec) -> None:
        """Check that all files of the weights are present and undamaged.

        Raises:
            ModelError: as `verified_bytes`.
        """
        for stored in spec.files:
            self.verified_bytes(spec, stored)

    def verified_bytes(self, spec: ModelSpec, stored: WeightsFile | None = None) -> bytes:
        """Return the weights of `spec`. The file is read once: the bytes that were checked are returned.

        Args:
            spec: of the model.
            stored: one of its files; None: the ONNX graph.

        Raises:
            ModelError: the file is missing, unreadable, a Git LFS pointer, or its size or SHA-256 is not the
                manifest's; the message has the file, the expected and the found value, and the remedy.
        """
        stored = stored or spec
        path = self._installed.get(spec.name, self.root) / stored.file
        remedy = self._remedy(spec, path)
        try:
            with path.open("rb") as handle:
                return _checked(handle, path, spec.name, stored, remedy)
        except FileNotFoundError:
            raise ModelError(f"{path}: the weights of {spec.name} are missing; {remedy}") from None
        except OSError as error:
            raise ModelError(f"{path}: the weights of {spec.name} cannot be read: {error.strerror}") from None

    def is_pulled(self, spec: ModelSpec) -> bool:
        """Return True if the model is one of those that `posewire models pull` knows, and was pulled."""
        return self.is_installed(spec) and any(download.model.name == spec.name for download in self.manifest.downloads)

    def _remedy(self, spec: ModelSpec, path: Path) -> str:
        if self.is_pulled(spec):
            return f"fetch it again with `posewire models pull {spec.name}`"
        if self.is_installed(spec):
            return f"add it again with `posewire models add FILE.onnx --name {spec.name} --replace`"
        return (
            f"reinstall posewire, in a checkout run `git checkout -- {path}`, or fetch the file again; "
            f"if you replaced it on purpose, write its bytes and sha256 into {MANIFEST}"
        )


def open_store(settings: Settings) -> ModelStore:
    """Open the store that the settings name; the installed models are beside its own.

    Raises:
        ModelError: a manifest is missing or not valid.
    """
    return ModelStore(settings.model_store, settings.cache_dir / "models")


def installed_models(root: Path) -> tuple[ModelSpec, ...]:
    """Return the models of a folder that `posewire models pull` fills.

    Raises:
        ModelError: its manifest is not valid, or is one of a whole store.
    """
    path = root / MANIFEST
    try:
        path.stat()
    except OSError:  # also if this user cannot read the folders above
        return ()
    additions = load_additions(path)
    if additions is None:
        raise ModelError(f"{path}: has [defaults], so it is a store of its own and not a folder for models that are pulled")
    return additions.models


def _checked(handle: BinaryIO, path: Path, name: str, stored: WeightsFile, remedy: str) -> bytes:
    # The size is checked first: a file that is far too large is not read.
    size = os.fstat(handle.fileno()).st_size
    if size != stored.bytes:
        if handle.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ModelError(f"{path}: a Git LFS pointer, not the weights of {name}; run `git lfs pull` in the checkout")
        raise ModelError(f"{path}: expected {stored.bytes} bytes, found {size}; {remedy}")
    content = handle.read()
    digest = hashlib.sha256(content).hexdigest()
    if digest != stored.sha256:
        raise ModelError(f"{path}: expected SHA-256 {stored.sha256}, found {digest}; {remedy}")
    return content
