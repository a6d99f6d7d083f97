"""Exports a detector and a pose model as a model repository of Triton.

The networks are models of Triton's ONNX Runtime backend, with dynamic batching. The pipeline around them is a model of its Python
backend, which runs the package `posewire` itself: so its people are those of `PosePipeline`.
"""

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from posewire.backends.base import open_model
from posewire.backends.cpu_limit import cpu_limit
from posewire.backends.device import cpu_plan
from posewire.backends.runtime import onnx_runtime
from posewire.config import Settings
from posewire.errors import PosewireError
from posewire.files import make_folder
from posewire.pipeline.detector import Detector
from posewire.pipeline.heads.base import detector_head
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.registry.choice import choose
from posewire.registry.specs import DetectorSpec, ModelSpec, PoseSpec
from posewire.registry.store import ModelStore, open_store
from posewire.schemas.inference_protocol import MODEL, VERSION
from posewire.tools.triton.config import network_config, pipeline_config
from posewire.tools.triton.graph import Graph, read_graph
from posewire.triton import networks

_SCRIPT: Final = Path(networks.__file__).with_name("script.py")
_CONFIG: Final = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class Exported:
    """The models that were exported."""

    detector: DetectorSpec
    pose: PoseSpec


def export(settings: Settings, folder: Path, *, replace: bool = False) -> Exported:
    """Write a model repository: whole, or not at all.

    Args:
        settings: the models, and what the pipeline needs to know; `max_batch` limits the batches of both networks.
        folder: of the repository.
        replace: write into a folder that is not empty; models of the same names are replaced, and all else is left.

    Raises:
        ModelError: a model is missing or damaged, is not what the manifest says, or Triton cannot run it.
        ConfigError: the head of the pose model cannot do the decoding or the flip test.
        PosewireError: the folder is not empty or cannot be written, or Triton's client is not installed.
    """
    _check(folder, replace)
    store = open_store(settings)
    choice = choose(settings, store.manifest)
    detector, pose = choice.detector, choice.pose
    plan = cpu_plan(cpu_limit(), "only to read the files")
    # Both are opened as in the service: what does not fit the manifest is found here, and not by Triton.
    Detector(detector, open_model(detector, store, plan, onnx_runtime(), "onnxruntime").session)
    session = open_model(pose, store, plan, onnx_runtime(), "onnxruntime").session
    PoseEstimator(pose, session, decoding=settings.decoding, flip_test=settings.flip_test)
    detector_limit = 1 if detector_head(detector).one_by_one else settings.max_batch
    detector_files, detector_network = _network(networks.DETECTOR, store, detector, detector_limit)
    pose_files, pose_network = _network(networks.POSE, store, pose, settings.max_batch)
    described = networks.Networks(detector=detector, detector_network=detector_network, pose=pose, pose_network=pose_network)
    models = {  # the one that clients call comes last: it needs the others
        networks.DETECTOR: detector_files,
        networks.POSE: pose_files,
        MODEL: {
            _CONFIG: pipeline_config(len(pose.keypoints.names), settings),
            f"{VERSION}/model.py": _SCRIPT.read_bytes(),
            f"{VERSION}/{networks.FILE}": described.to_json(),
        },
    }
    try:
        _write(folder, models)
    except OSError as error:
        raise PosewireError(f"{folder} cannot be written: {error.strerror}; nothing was exported") from None
    return Exported(detector, pose)


def _network(name: str, store: ModelStore, spec: ModelSpec, limit: int) -> tuple[Mapping[str, bytes], networks.Network]:
    """Return the files of a network's model, and what the script needs to know of it; `limit` is the largest batch."""
    model = store.verified_bytes(spec)
    graph = read_graph(model, spec.name, spec.output.outputs)
    max_batch = _max_batch(graph, limit)
    config = network_config(name, graph, networks.item_shape(spec.input), max_batch)
    network = networks.Network(
        model=name, input=graph.input.name, outputs=tuple(output.name for output in graph.outputs), max_batch=max_batch
    )
    return {_CONFIG: config, "1/model.onnx": model}, network


def _max_batch(graph: Graph, limit: int) -> int:
    return limit if graph.takes_batches and limit > 1 else 0


def _check(folder: Path, replace: bool) -> None:
    try:
        taken = next(folder.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise PosewireError(f"{folder} cannot be read: {error.strerror}") from None
    if taken is not None and not replace:
        raise PosewireError(f"{folder} is not empty; --replace writes into it, and replaces models of the same names")


def _write(folder: Path, models: Mapping[str, Mapping[str, bytes]]) -> None:
    """Write all files beside their places, then move them there.

    Raises:
        OSError: something cannot be written; the folder is as before.
    """
    exists = folder.exists()
    parent = folder if exists else folder.parent
    make_folder(parent)
    staging = parent / f".posewire-{secrets.token_hex(8)}"
    try:
        new = staging / "new"
        for model, files in models.items():
            for name, content in files.items():
                path = new / model / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        if exists:
            _swap(new, folder, staging / "old", list(models))
        else:
            new.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap(new: Path, folder: Path, old: Path, names: list[str]) -> None:
    """Move folders from `new` to `folder`, and what was there to `old`. What goes wrong is undone."""
    old.mkdir()
    moved: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        source.rename(target)
        moved.append((source, target))

    try:
        for name in names:
            if (folder / name).exists() or (folder / name).is_symlink():
                move(folder / name, old / name)
            move(new / name, folder / name)
    except BaseException:
        for source, target in reversed(moved):
            target.rename(source)
        raise
