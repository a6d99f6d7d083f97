"""`posewire models quantize`: static INT8, with the two numbers that say whether it is worth it."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posewire.backends.device import cpu_plan
from posewire.backends.onnxruntime import OnnxSession
from posewire.backends.preprocess import Preprocessor
from posewire.cli.predict import find_pictures
from posewire.cli.progress import progress
from posewire.config import Settings
from posewire.engine.engine import load_engine
from posewire.errors import ModelError, PosewireError
from posewire.files import write_atomically
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.registry.infer_spec import infer_spec, require_pose
from posewire.registry.specs import PoseSpec
from posewire.registry.store import open_store
from posewire.schemas.pose import coco_rows
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics
from posewire.tools.bench.comparison import ModelFile, Row, item_shape, measure, model_file
from posewire.tools.calibration import CalibrationSet, Limits, annotated, choose, detected, read
from posewire.tools.evaluate.annotations import Annotations
from posewire.types import FloatArray, PoseResult, UInt8Array

# The most that may be lost: half a point of AP, of 100.
_MOST_LOST = 0.005

# Exit code where INT8 is not worth it here.
_LOSES = 3

_INTERRUPTED = 128 + signal.SIGINT


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What the command line asked for."""

    images: Path
    annotations: Path | None
    validate_images: Path | None
    validate_annotations: Path | None
    out: Path
    people: int
    coverage: str
    rounds: int
    keep: bool


def quantize_model(settings: Settings, model: str, options: QuantizeOptions) -> int:
    """Calibrate, quantize, measure, and write the file where it wins; 3 where it does not, 130 after Ctrl-C.

    Raises:
        PosewireError: the model or the pictures do not serve, the disk is full, or onnx is not installed.
    """
    configure_logging(settings.log_level)
    path = model_file(settings, model).path
    _check(path, options)
    try:
        return _quantize(settings, path, options)
    except KeyboardInterrupt:
        print("posewire: interrupted; nothing was written", file=sys.stderr)
        return _INTERRUPTED
    except OSError as error:
        raise PosewireError(f"a temporary file cannot be written: {error.strerror}; free some space, or set TMPDIR") from None


def _check(path: Path, options: QuantizeOptions) -> None:
    """Say before the work what would make it worthless."""
    if (options.validate_images is None) != (options.validate_annotations is None):
        raise PosewireError("--validate-images and --validate-annotations go together: give both, or neither")
    if options.validate_images is not None and options.validate_images.samefile(options.images):
        raise PosewireError("what is calibrated on says nothing of the accuracy: give other pictures as --validate-images")
    if not options.out.parent.is_dir():
        raise PosewireError(f"{options.out.parent} is not a folder: make it, or give another --out")
    if options.out.exists() and options.out.samefile(path):
        raise PosewireError(f"{options.out} is the model itself: give another --out")
    try:
        import onnxruntime.quantization  # noqa: F401
    except ImportError:
        raise PosewireError("quantizing needs onnx: pip install 'posewire[compile]'") from None


def _quantize(settings: Settings, path: Path, options: QuantizeOptions) -> int:
    validation = None
    if options.validate_images is not None and options.validate_annotations is not None:
        validation = Annotations(options.validate_annotations, options.validate_images)
    original = _estimator(path, settings, None)
    chosen = _people(settings, original, options)
    print(f"calibrated on {len(chosen.crops)} people of {chosen.pictures} pictures, input as {original.spec.name}")
    content = int8(path.read_bytes(), original.spec, chosen, options.coverage, "calibration")
    with tempfile.TemporaryDirectory(prefix="posewire-quantize-") as folder:
        candidate = Path(folder) / options.out.name
        candidate.write_bytes(content)
        with progress(options.rounds, "rounds") as advance:
            speed = measure(ModelFile(candidate), path, [1], [1], options.rounds, advance)[-1]
        ap = None
        if validation is not None:
            quantized = _estimator(candidate, settings, original.spec)
            ap = _ap(original, validation, settings, "float32"), _ap(quantized, validation, settings, "INT8")
    return judge(content, speed, ap, options)


def _estimator(path: Path, settings: Settings, spec: PoseSpec | None) -> PoseEstimator:
    """The pose model of a file, on the CPU; a file without `spec` is recognised."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    session = OnnxSession(content, path.name, cpu_plan(1, "INT8 is for the CPU"))
    if spec is None:
        manifest = open_store(settings).manifest
        require_pose(content, path.name, manifest)
        takes = item_shape(path)
        gives = session.run(np.zeros((1, *takes), np.float32)).shape[1:]
        spec = infer_spec(content, path.name, manifest, takes, gives)
    return PoseEstimator(spec, session, decoding=settings.decoding, flip_test=settings.flip_test)


def _people(settings: Settings, pose: PoseEstimator, options: QuantizeOptions) -> CalibrationSet:
    limits = Limits(settings.max_bytes, settings.max_pixels)
    if options.annotations is None:
        paths = find_pictures([str(options.images)])
        boxes = detected(load_engine(settings, Metrics()).detector, settings.min_detection_score)
    else:
        known = {p.path: p.boxes_xywh for p in Annotations(options.annotations, options.images).pictures if len(p.boxes_xywh)}
        paths, boxes = list(known), annotated(known)
    with progress(options.people, "people") as advance:
        return choose(paths, boxes, pose, options.people, limits, advance)


def int8(onnx: bytes, spec: PoseSpec, chosen: CalibrationSet, coverage: str, what: str) -> bytes:
    """The graph in INT8, calibrated on the chosen crops, with a progress bar that says `what`."""
    from posewire.tools.quantize.quantizing import Coverage, quantize

    preprocessor = Preprocessor(spec.input)
    with progress(len(chosen.crops), what) as advance:

        def inputs() -> Iterator[FloatArray | UInt8Array]:
            for crop in chosen.crops:
                yield preprocessor([crop])
                advance()

        return quantize(onnx, inputs(), Coverage(coverage))


def _ap(pose: PoseEstimator, data: Annotations, settings: Settings, what: str) -> float:
    """Keypoint AP, 0..1, with the annotated boxes."""
    limits = Limits(settings.max_bytes, settings.max_pixels)
    rows = []
    with progress(len(data.pictures), f"AP of {what}") as advance:
        for picture in data.pictures:
            if len(picture.boxes_xywh):
                frame = read(picture.path, limits)
                crops = pose.crop(frame, picture.boxes_xywh)
                found = pose.infer([crop.pixels for crop in crops])
                people = (pose.postprocess(box, 1.0, crop, k) for box, crop, k in zip(picture.boxes_xywh, crops, found, strict=True))
                rows += [row.model_dump() for row in coco_rows(PoseResult(frame.width, frame.height, tuple(people)), picture.image_id, 0.0)]
            advance()
    return data.keypoint_ap(rows)["AP"]


def judge(content: bytes, speed: Row, ap: tuple[float, float] | None, options: QuantizeOptions) -> int:
    """Print both numbers and the verdict; write the file where it wins, or where it is to be kept.

    Args:
        content: of the INT8 file.
        speed: of it against the float32 file.
        ap: of the float32 and of the INT8 file, 0..1; None: not measured, so that it cannot win.
        options: where to write it, and whether to keep it anyway.

    Returns:
        The exit code: 0 where it wins, else 3.
    """
    faster = speed.high < 1
    word = "faster" if faster else "slower" if speed.low > 1 else "no faster"
    print(f"INT8 is {word} here: {speed.model_ms:.2f} ms against {speed.against_ms:.2f} ms of float32 at batch 1,")
    print(f"ratio {speed.ratio:.3f} [{speed.low:.3f} {speed.high:.3f}] (median of pairs, quartiles; below 1 is faster)")
    if ap is None:
        print("AP was not measured: give --validate-images and --validate-annotations")
    else:
        print(f"AP {ap[1] - ap[0]:+.4f}: {ap[1]:.4f} against {ap[0]:.4f}")
    wins = faster and ap is not None and ap[0] - ap[1] < _MOST_LOST
    if wins or options.keep:
        write_atomically(options.out, content)
        print(f"{options.out}: written, {len(content)} bytes" + ("" if wins else ", although it is not worth it"))
    else:
        print(f"{options.out}: not written; --keep writes it all the same")
    return 0 if wins else _LOSES
