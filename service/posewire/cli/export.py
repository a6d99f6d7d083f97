"""`posewire models export`: a model repository for NVIDIA's Triton Inference Server."""

from pathlib import Path

from posewire import __version__
from posewire.config import Settings
from posewire.telemetry.logs import configure_logging
from posewire.tools.triton.export import export


def export_triton(settings: Settings, folder: Path, *, replace: bool) -> int:
    """Write the repository, and print what is in it and how it is served.

    Raises:
        PosewireError: it cannot be written; the message says why.
    """
    configure_logging(settings.log_level)
    exported = export(settings, folder, replace=replace)
    print(f"{folder}: the models posewire, posewire_detector ({exported.detector.name}) and posewire_pose ({exported.pose.name})")
    print(f"where Triton runs: pip install posewire=={__version__}, then tritonserver --model-repository={folder}")
    return 0
