"""The two sides of a comparison: their models, loaded from the manifest or from a file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posewire.backends.device import DevicePlan
from posewire.backends.onnxruntime import OnnxSession
from posewire.config import Settings
from posewire.errors import ModelError, PosewireError
from posewire.files import read_plain
from posewire.pipeline.detector import Detector
from posewire.pipeline.loading import plan_device
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_pipeline import PosePipeline, load_pipeline
from posewire.registry.choice import choose
from posewire.registry.infer_spec import infer_spec
from posewire.registry.keypoint_sets import KeypointSet
from posewire.registry.manifest import Manifest
from posewire.registry.specs import DetectorSpec, PoseSpec
from posewire.registry.store import open_store
from posewire.tools.bench.comparison import item_shape
from posewire.tools.evaluate.predicting import Boxes

_BATCHES = (2, 4, 8, 16)  # sizes that are opened where they cost nothing
_MAX_FILE_BYTES = 2 << 30  # ONNX files cannot be larger


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One side of a comparison, ready to run."""

    name: str  # as it was given
    pipeline: PosePipeline

    @property
    def keypoints(self) -> KeypointSet:
        """The keypoint set of its pose model."""
        return self.pipeline.pose.spec.keypoints

    def describe(self, boxes: Boxes) -> str:
        """Return the names of the models that run, and what they run on."""
        detector, pose = self.pipeline.detector, self.pipeline.pose
        runs = f"{pose.spec.name} ({pose.session.provider})"
        return f"{detector.spec.name} ({detector.session.provider}), {runs}" if boxes == "detector" else runs


def load_sides(names: tuple[str, str], boxes: Boxes, settings: Settings) -> tuple[Side, Side]:
    """Load both sides.

    Args:
        names: each a pair, a pose model or a detector of the manifest, or the path of an ONNX file. The settings choose what a name
            leaves open.
        boxes: the boxes that people are given by.
        settings: of the command.

    Raises:
        PosewireError: a name is unknown, a detector is compared with annotated boxes, a model cannot be loaded, or the pose models have
            different keypoints.
    """
    manifest = open_store(settings).manifest
    a, b = (_load(name, boxes, settings, manifest) for name in names)
    if a.keypoints.names != b.keypoints.names:
        counts = " and ".join(f"{side.name} has {len(side.keypoints.names)}" for side in (a, b))
        raise PosewireError(f"only pose models of the same keypoints can be compared: {counts}")
    if len(a.keypoints.oks_sigmas) != len(a.keypoints.names):
        raise PosewireError(f"the keypoint set of {a.name} has no OKS sigmas, which COCO's metric needs")
    return a, b


def _load(name: str, boxes: Boxes, settings: Settings, manifest: Manifest) -> Side:
    known = {spec.name: spec for spec in manifest.models}
    path = None
    if name in manifest.pairs:
        pair = manifest.pairs[name]
        chosen = settings.model_copy(update={"detector": pair.detector, "pose": pair.pose})
    elif name in known or any(download.model.name == name for download in manifest.downloads):
        spec = manifest.get(name)
        _require_use(spec, name, boxes)
        chosen = settings.model_copy(update={spec.task: name})
    elif Path(name).is_file():
        path, chosen = Path(name), settings
    else:
        raise ModelError(
            f"{name!r} is neither a pair ({', '.join(manifest.pairs) or 'none'}), nor a model ({', '.join(known)}), nor an ONNX file"
        )
    pinned = choose(chosen, manifest).pin(settings)
    plan = plan_device(pinned)
    pipeline = load_pipeline(pinned, plan)
    if path is not None:
        pipeline = _with_file(pipeline, path, boxes, pinned, plan, manifest)
    if not plan.fixed_sizes:
        for model in (pipeline.detector, pipeline.pose):
            for size in _BATCHES:
                model.session.open_size(size)
    return Side(name, pipeline)


def _require_use(spec: PoseSpec | DetectorSpec, name: str, boxes: Boxes) -> None:
    if isinstance(spec, DetectorSpec) and boxes == "gt":
        raise PosewireError(f"{name} is a detector, which does not run on annotated boxes: add --boxes detector")


def _with_file(pipeline: PosePipeline, path: Path, boxes: Boxes, settings: Settings, plan: DevicePlan, manifest: Manifest) -> PosePipeline:
    """Return the pipeline with the model of a file in the place of its own: one of the manifest, or a pose model like its default."""
    content = read_plain(path, _MAX_FILE_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    spec = next((spec for spec in manifest.models if spec.sha256 == digest), None)
    sizes = {"height": spec.input.height, "width": spec.input.width} if spec else None
    session = OnnxSession(content, path.name, plan, sizes=sizes)
    if spec is None:
        spec = _inferred(session, content, path, manifest)
    _require_use(spec, path.name, boxes)
    detector, pose = pipeline.detector, pipeline.pose
    if isinstance(spec, DetectorSpec):
        detector = Detector(spec, session)
    else:
        pose = PoseEstimator(spec, session, decoding=settings.decoding, flip_test=settings.flip_test)
    return PosePipeline(detector, pose, max_bytes=settings.max_bytes, max_pixels=settings.max_pixels, defaults=settings.pose_options())


def _inferred(session: OnnxSession, content: bytes, path: Path, manifest: Manifest) -> PoseSpec:
    """Return the spec of a file that the manifest does not have."""
    input_shape = item_shape(path)
    blank = np.zeros((1, *input_shape), np.uint8)
    try:
        output = session.run(blank if session.input_format != "float32-nchw" else blank.astype(np.float32))
    except Exception as error:  # ONNX Runtime raises many types, and each means the same here
        raise ModelError(f"{path} cannot be run: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    return infer_spec(content, path.name, manifest, input_shape, output.shape[1:])
