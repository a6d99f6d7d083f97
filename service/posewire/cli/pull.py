"""`posewire models pull`: download a published model and make it ready to serve."""

import signal
import sys
from pathlib import Path

from posewire.cli.progress import download_progress
from posewire.config import Settings
from posewire.registry.store import open_store
from posewire.tools.compiler.pull import pull

_INTERRUPTED = 128 + signal.SIGINT


def pull_model(settings: Settings, name: str, folder: Path | None) -> int:
    """Pull a model into `folder`, or into the settings' folder of pulled models; return 130 after Ctrl-C.

    Raises:
        PosewireError: it cannot be pulled.
    """
    store = open_store(settings)
    root = folder or store.installed_root or settings.cache_dir / "models"
    try:
        with download_progress() as report:
            spec = pull(name, store.manifest, root, mirror=settings.model_mirror, report=report)
    except KeyboardInterrupt:
        print(f"posewire: interrupted; run it again to resume the download in {root}", file=sys.stderr)
        return _INTERRUPTED
    print(f"{name}: {root / spec.file}, {spec.bytes / 1e6:.1f} MB")
    elsewhere = f"POSEWIRE_MODEL_STORE={root} " if root != store.installed_root else ""
    print(f"serve it with {elsewhere}POSEWIRE_{spec.task.upper()}={name}")
    return 0
