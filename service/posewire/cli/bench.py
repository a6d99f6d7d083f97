"""`posewire bench`: compare the speed of two model files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from posewire.backends.runtime import onnx_runtime
from posewire.cli.progress import progress
from posewire.tools.bench.comparison import ModelFile, Row, measure


def bench(model: ModelFile, against: Path | None, batches: Sequence[int], threads: Sequence[int], rounds: int, *, as_json: bool) -> int:
    """Time a model file against another and against itself, and print the rows.

    Raises:
        ModelError: a file cannot be opened, or the two take inputs of different shapes.
        DeviceError: ONNX Runtime is not installed.
    """
    onnx_runtime()  # else the reason would come from within a run
    with progress(len(batches) * len(threads) * rounds, "rounds") as advance:
        rows = measure(model, against, batches, threads, rounds, advance)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print(rows, model.path)
    return 0


def _print(rows: Sequence[Row], model: Path) -> None:
    print(f"{model.name}, ms an item, ratio of the model to the other (median of pairs, quartiles)")
    print(f"{'batch':>5} {'threads':>7} {'model':>8} {'other':>8}  {'ratio':<20} other")
    for r in rows:
        spread = f"{r.ratio:.3f} [{r.low:.3f} {r.high:.3f}]"
        print(f"{r.batch:>5} {r.threads:>7} {r.model_ms:>8.2f} {r.against_ms:>8.2f}  {spread:<20} {r.against}")
