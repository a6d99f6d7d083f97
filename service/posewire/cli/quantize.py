"""`posewire models quantize`: static INT8, with its speed and accuracy against the float32 model."""

import signal
import sys
from pathlib import Path

from posewire.cli.predict import find_images
from posewire.cli.progress import progress
from posewire.config import Settings
from posewire.files import write_atomically
from posewire.telemetry.logs import configure_logging
from posewire.tools.bench.comparison import model_file
from posewire.tools.quantize.candidate import Candidate, Quantization, QuantizeOptions, check_options

# Exit codes.
_NOT_WORTH_IT = 3
_INTERRUPTED = 128 + signal.SIGINT


def quantize_model(settings: Settings, model: str, options: QuantizeOptions) -> int:
    """Calibrate, quantize, measure, and write the file if it wins; return 3 if it does not, 130 after Ctrl-C.

    Raises:
        PosewireError: the model or the images cannot be used, the disk is full, or onnx is not installed.
    """
    configure_logging(settings.log_level)
    path = model_file(settings, model).path
    check_options(path, options)
    try:
        return _quantize(settings, path, options)
    except KeyboardInterrupt:
        print("posewire: interrupted; nothing was written", file=sys.stderr)
        return _INTERRUPTED


def _quantize(settings: Settings, path: Path, options: QuantizeOptions) -> int:
    work = Quantization(settings, path, options, progress)
    chosen = work.calibrate(find_images([str(options.images)]) if options.annotations is None else [])
    print(f"calibrated on {len(chosen.crops)} people of {chosen.images} images, input as {work.spec.name}")
    return report(work.candidate(chosen), options)


def report(candidate: Candidate, options: QuantizeOptions) -> int:
    """Print the measurements and the verdict; write the file if it wins, or if `options.keep` is set.

    Returns:
        The exit code: 0 if the candidate wins, else 3.
    """
    speed, ap, wins = candidate.speed, candidate.ap, candidate.wins
    word = "faster" if candidate.is_faster else "slower" if speed.low > 1 else "no faster"
    print(f"INT8 is {word} here: {speed.model_ms:.2f} ms against {speed.against_ms:.2f} ms of float32 at batch 1,")
    print(f"ratio {speed.ratio:.3f} [{speed.low:.3f} {speed.high:.3f}] (median of pairs, quartiles; below 1 is faster)")
    if ap is None:
        print("AP was not measured: give --validate-images and --validate-annotations")
    else:
        print(f"AP {ap[1] - ap[0]:+.4f}: {ap[1]:.4f} against {ap[0]:.4f}")
    if wins or options.keep:
        write_atomically(options.out, candidate.content)
        print(f"{options.out}: written, {len(candidate.content)} bytes" + ("" if wins else ", although it is not worth it"))
    else:
        print(f"{options.out}: not written; --keep writes it all the same")
    return 0 if wins else _NOT_WORTH_IT
