"""The teacher that a recipe asks for, of the file that was named."""

from collections.abc import Sequence
from pathlib import Path

from model_store.training import checkpoints, networks
from model_store.training.recipe import DetectorDistillation, PoseDistillation
from model_store.training.rtmdet import build, published_name
from model_store.training.teachers import Teacher, rtmdet, tinypose
from model_store.training.teachers.modules import ModuleTeacher
from posewire.errors import PosewireError


def open_pose_teacher(how: PoseDistillation, file: Path, places: Sequence[str]) -> Teacher:
    """A teacher of heatmaps: an OpenVINO IR of PP-TinyPose, or a checkpoint of the recipe's `network`.

    Raises:
        PosewireError: the file cannot be read, is another network, or cannot be run as it is.
    """
    if file.suffix == ".xml":
        _refuse_another(file, tinypose.NETWORK, how.network)
        return tinypose.run_file(file, places) if how.runs == "file" else ModuleTeacher(tinypose.rebuild(file), places)
    _refuse_to_run(how.runs, file)
    network = networks.build(how.network)
    checkpoints.load_weights(file, network)
    return ModuleTeacher(network, places)


def open_detector_teacher(how: DetectorDistillation, file: Path, places: Sequence[str]) -> Teacher:
    """A teacher of boxes: the ONNX export of the published RTMDet-nano for people, or a checkpoint of our own.

    Raises:
        PosewireError: as `open_pose_teacher`.
    """
    if file.suffix == ".onnx":
        _refuse_another(file, rtmdet.NETWORK, how.network)
        return rtmdet.run_file(file, places) if how.runs == "file" else ModuleTeacher(rtmdet.rebuild(file), places)
    _refuse_to_run(how.runs, file)
    network = build(how.network)
    checkpoints.load_weights(file, network, published_name)
    return ModuleTeacher(network, places)


def _refuse_another(file: Path, network: str, wanted: str) -> None:
    if network != wanted:
        raise PosewireError(f"the teacher {file} is {network}, the recipe asks for {wanted}")


def _refuse_to_run(runs: str, file: Path) -> None:
    if runs == "file":
        raise PosewireError(f'the teacher {file} is a checkpoint, which cannot be run as it is: runs = "module"')
