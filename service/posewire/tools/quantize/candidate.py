"""An INT8 candidate of a pose model: calibrated, quantized, and measured against the float32 file."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from posewire.backends.device import cpu_plan
from posewire.backends.onnxruntime import OnnxSession
from posewire.backends.preprocess import Preprocessor
from posewire.config import Settings
from posewire.engine.engine import load_engine
from posewire.errors import ModelError, PosewireError
from posewire.formats.coco import coco_rows
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.registry.infer_spec import infer_spec, require_pose
from posewire.registry.specs import PoseSpec
from posewire.registry.store import open_store
from posewire.telemetry.metrics import Metrics
from posewire.tools.bench.comparison import ModelFile, Row, item_shape, measure
from posewire.tools.calibration import CalibrationSet, Limits, annotated, choose, detected, read
from posewire.tools.evaluate.annotations import Annotations
from posewire.tools.progress import Progress
from posewire.types import FloatArray, PoseResult, UInt8Array

_MAX_LOSS: Final = 0.005  # of AP, 0..1


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """The options of `posewire models quantize`."""

    images: Path
    annotations: Path | None
    validate_images: Path | None
    validate_annotations: Path | None
    out: Path
    people: int
    coverage: str
    rounds: int
    keep: bool


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An INT8 file and its measurements."""

    content: bytes
    speed: Row  # against the float32 file
    ap: tuple[float, float] | None  # of the float32 and of the INT8 file, 0..1; None: not measured

    @property
    def is_faster(self) -> bool:
        """True if it is faster than the float32 file by more than the noise."""
        return self.speed.high < 1

    @property
    def wins(self) -> bool:
        """True if it is faster and its loss of AP is measured and small."""
        return self.is_faster and self.ap is not None and self.ap[0] - self.ap[1] < _MAX_LOSS


def check_options(path: Path, options: QuantizeOptions) -> None:
    """Refuse options that would make the work worthless.

    Args:
        path: of the float32 model.
        options: of the command.

    Raises:
        PosewireError: options contradict each other, the target is not usable, or onnx is not installed.
    """
    if (options.validate_images is None) != (options.validate_annotations is None):
        raise PosewireError("--validate-images and --validate-annotations go together: give both, or neither")
    if options.validate_images is not None and options.validate_images.samefile(options.images):
        raise PosewireError("what is calibrated on says nothing of the accuracy: give other images as --validate-images")
    if not options.out.parent.is_dir():
        raise PosewireError(f"{options.out.parent} is not a folder: make it, or give another --out")
    if options.out.exists() and options.out.samefile(path):
        raise PosewireError(f"{options.out} is the model itself: give another --out")
    try:
        import onnxruntime.quantization  # noqa: F401
    except ImportError:
        raise PosewireError("quantizing needs onnx: pip install 'posewire[compile]'") from None


class Quantization:
    """The quantization of one pose model: `calibrate` returns the crops, `candidate` quantizes and measures.

    Args:
        settings: of the command.
        path: of the float32 model.
        options: checked by `check_options`.
        progress: shows how far each step is.

    Raises:
        PosewireError: the model or the images for the validation cannot be used.
    """

    def __init__(self, settings: Settings, path: Path, options: QuantizeOptions, progress: Progress) -> None:
        self._settings = settings
        self._path = path
        self._options = options
        self._progress = progress
        self._limits = Limits(settings.max_bytes, settings.max_pixels)
        self._validation = None
        if options.validate_images is not None and options.validate_annotations is not None:
            self._validation = Annotations(options.validate_annotations, options.validate_images)
        self._original = _estimator(path, settings, None)

    @property
    def spec(self) -> PoseSpec:
        """The spec of the model."""
        return self._original.spec

    def calibrate(self, paths: Sequence[Path]) -> CalibrationSet:
        """Choose the people for the calibration.

        Args:
            paths: of images, used where the options have no annotations: the detector finds the people.

        Raises:
            PosewireError: as `choose`.
        """
        settings, options = self._settings, self._options
        if options.annotations is None:
            boxes = detected(load_engine(settings, Metrics()).detector, settings.min_detection_score)
        else:
            known = {p.path: p.boxes_xywh for p in Annotations(options.annotations, options.images).images if len(p.boxes_xywh)}
            paths, boxes = list(known), annotated(known)
        with self._progress(options.people, "people") as advance:
            return choose(paths, boxes, self._original, options.people, self._limits, advance)

    def candidate(self, chosen: CalibrationSet) -> Candidate:
        """Quantize the model and measure the result.

        Args:
            chosen: the crops of the calibration.

        Raises:
            PosewireError: the model cannot be quantized, an image cannot be read, or the disk is full.
        """
        options = self._options
        try:
            content = self._int8(chosen)
            with tempfile.TemporaryDirectory(prefix="posewire-quantize-") as folder:
                file = Path(folder) / options.out.name
                file.write_bytes(content)
                with self._progress(options.rounds, "rounds") as advance:
                    speed = measure(ModelFile(file), self._path, [1], [1], options.rounds, advance)[-1]
                ap = None
                if self._validation is not None:
                    quantized = _estimator(file, self._settings, self.spec)
                    ap = self._ap(self._original, self._validation, "float32"), self._ap(quantized, self._validation, "INT8")
        except OSError as error:
            raise PosewireError(f"a temporary file cannot be written: {error.strerror}; free some space, or set TMPDIR") from None
        return Candidate(content, speed, ap)

    def _int8(self, chosen: CalibrationSet) -> bytes:
        from posewire.tools.quantize.quantizing import Coverage, quantize

        preprocessor = Preprocessor(self.spec.input)
        with self._progress(len(chosen.crops), "calibration") as advance:

            def inputs() -> Iterator[FloatArray | UInt8Array]:
                for crop in chosen.crops:
                    yield preprocessor([crop])
                    advance()

            return quantize(self._path.read_bytes(), inputs(), Coverage(self._options.coverage))

    def _ap(self, pose: PoseEstimator, data: Annotations, name: str) -> float:
        """Return the keypoint AP, 0..1, with the annotated boxes."""
        rows = []
        with self._progress(len(data.images), f"AP of {name}") as advance:
            for image in data.images:
                if len(image.boxes_xywh):
                    frame = read(image.path, self._limits)
                    crops = pose.crop(frame, image.boxes_xywh)
                    outputs = pose.infer([crop.pixels for crop in crops])
                    people = (pose.postprocess(box, 1.0, crop, k) for box, crop, k in zip(image.boxes_xywh, crops, outputs, strict=True))
                    result = PoseResult(frame.width, frame.height, tuple(people))
                    rows += coco_rows(result, image.image_id, 0.0)
                advance()
        return data.keypoint_ap(rows)["AP"]


def _estimator(path: Path, settings: Settings, spec: PoseSpec | None) -> PoseEstimator:
    """Load the pose model of a file on the CPU; None: infer the spec from the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    session = OnnxSession(content, path.name, cpu_plan(1, "INT8 is for the CPU"))
    if spec is None:
        manifest = open_store(settings).manifest
        require_pose(content, path.name, manifest)
        input_shape = item_shape(path)
        output_shape = session.run(np.zeros((1, *input_shape), np.float32)).shape[1:]
        spec = infer_spec(content, path.name, manifest, input_shape, output_shape)
    return PoseEstimator(spec, session, decoding=settings.decoding, flip_test=settings.flip_test)
