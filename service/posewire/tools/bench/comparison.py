"""Compare the speed of two model files: interleaved runs, ratios with their spread."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from posewire.backends.cpu_kernels import folded, network
from posewire.backends.cpu_kernels.session import KernelSession
from posewire.backends.runtime import onnx_runtime
from posewire.config import Settings
from posewire.errors import ModelError
from posewire.files import open_plain
from posewire.registry.choice import choose
from posewire.registry.specs import ModelSpec
from posewire.registry.store import open_store
from posewire.tools.compiler.litehrnet.options import MEAN, STD
from posewire.types import FloatArray, UInt8Array

# A timed run: one batch through a session, whole or item by item.
Input: TypeAlias = FloatArray | UInt8Array
Run: TypeAlias = Callable[[Input], None]
Sizes: TypeAlias = Mapping[str, int]  # of the dimensions that the file leaves open, by their names in the file

_WARM_UP = 3
_COLOURS = 3
_KERNELS = ".safetensors"  # the kernels' weights


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; a ratio below 1 means that the model is faster than the other."""

    batch: int
    threads: int  # intra-op
    against: str
    model_ms: float  # median, per item
    against_ms: float  # median, per item
    ratio: float  # median of the pairwise ratios
    low: float  # their first quartile
    high: float  # their third quartile


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The file of a model, and the sizes of its open dimensions."""

    path: Path
    sizes: Sizes = field(default_factory=dict)


def measure(
    model: ModelFile, against: Path | None, batches: Sequence[int], threads: Sequence[int], rounds: int, advance: Callable[[], None]
) -> list[Row]:
    """Time a model file against another and against itself, which shows the noise.

    The kernels' weights (FILE.safetensors) run on one thread, at the size of the other file. Every round runs all candidates
    once, in a random order, on the same input; a ratio compares two runs of one round. The model runs item by item, as Posewire
    runs it on a CPU. If the other file accepts any batch size, it runs both item by item and as a whole batch.

    Returns:
        The rows. The last row of every number of threads and batch size is the comparison with `against`, item by item.

    Raises:
        ModelError: a file cannot be opened, or the two take inputs of different shapes.
    """
    shape = _item_shape_of(model, against)
    if against is not None and (other := item_shape(against, model.sizes)) != shape:
        raise ModelError(f"{model.path.name} takes {shape}, {against.name} takes {other}: nothing to compare")
    rows: list[Row] = []
    for count in threads:
        candidates = _candidates(model, against, count, shape)
        for batch in batches:
            rows += _compare(candidates, _input(shape, batch), count, rounds, advance)
    return rows


def model_file(settings: Settings, name: str | None) -> ModelFile:
    """Return the file of a model.

    Args:
        settings: of the command.
        name: of a model, or the path of an ONNX file; None: the pose model in use. A file that leaves its size open runs at
            the size in the manifest.

    Raises:
        ModelError: `name` is neither a model nor a file.
    """
    store = open_store(settings)
    if name is not None and Path(name).is_file():
        path = Path(name)
        spec = next((spec for spec in store.manifest.models if store.path(spec).exists() and store.path(spec).samefile(path)), None)
        return ModelFile(path, _sizes_of(spec) if spec else {})
    spec = store.manifest.get(name) if name else choose(settings, store.manifest).pose
    return ModelFile(store.path(spec), _sizes_of(spec))


def _sizes_of(spec: ModelSpec) -> Sizes:
    return {"height": spec.input.height, "width": spec.input.width}


def _candidates(model: ModelFile, against: Path | None, threads: int, shape: Sequence[int]) -> dict[str, Run]:
    on_kernels = model.path.suffix == _KERNELS
    run = partial(_on_kernels, model.path, shape) if on_kernels else partial(_one_by_one, model.path, threads, model.sizes)
    candidates = {"model": run(), "itself (noise)": run()}
    if against is not None:
        if _open(against, threads).get_inputs()[0].shape[0] != 1:
            candidates[f"{against.name}, whole batch"] = _whole(against, threads, model.sizes)
        candidates[f"{against.name}, one by one"] = _one_by_one(against, threads, model.sizes)
    return candidates


def _compare(candidates: dict[str, Run], batch: Input, threads: int, rounds: int, advance: Callable[[], None]) -> list[Row]:
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        for _ in range(_WARM_UP):
            run(batch)
    for _ in range(rounds):
        for name in random.sample(list(candidates), len(candidates)):
            started = time.perf_counter()
            candidates[name](batch)
            seconds[name].append(time.perf_counter() - started)
        advance()
    own = np.array(seconds.pop("model"))
    return [_row(name, own, np.array(times), len(batch), threads) for name, times in seconds.items()]


def _row(against: str, own: FloatArray, other: FloatArray, batch: int, threads: int) -> Row:
    low, ratio, high = np.percentile(own / other, [25, 50, 75])
    own_ms, other_ms = (float(np.median(times)) * 1000 / batch for times in (own, other))
    return Row(batch, threads, against, own_ms, other_ms, float(ratio), float(low), float(high))


def _open(path: Path, threads: int, **free: int) -> Any:
    options = onnx_runtime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for name, size in free.items():
        options.add_free_dimension_override_by_name(name, size)
    open_plain(path).close()  # ONNX Runtime would wait for a pipe
    try:
        return onnx_runtime().InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{path} cannot be opened: {str(error).splitlines()[0]}") from None


def _whole(path: Path, threads: int, sizes: Sizes) -> Run:
    session = _open(path, threads, **sizes)
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})


def _one_by_one(path: Path, threads: int, sizes: Sizes) -> Run:
    free = _open(path, threads).get_inputs()[0].shape[0]
    session = _open(path, threads, **({free: 1} if isinstance(free, str) else {}), **sizes)
    name = session.get_inputs()[0].name

    def run(batch: Input) -> None:
        for i in range(len(batch)):
            session.run(None, {name: batch[i : i + 1]})

    return run


def _on_kernels(path: Path, shape: Sequence[int]) -> Run:
    with open_plain(path) as file:
        weights = folded.read(file.read(), path.name)
    session = KernelSession(network.plan(weights, shape[1], shape[2], MEAN, STD))
    images = np.random.default_rng(0).integers(0, 256, (1, *shape[1:], 3), dtype=np.uint8)

    def run(batch: Input) -> None:
        for _ in range(len(batch)):  # the session normalises the pixels; the time does not depend on them
            session.run(images)

    return run


def _item_shape_of(model: ModelFile, against: Path | None) -> tuple[int, ...]:
    if model.path.suffix != _KERNELS:
        return item_shape(model.path, model.sizes)
    if against is None:
        raise ModelError(f"{model.path.name} is for images of any size: give the ONNX file to compare with, which has one")
    return item_shape(against)


def _input(shape: tuple[int, ...], batch: int) -> Input:
    if shape[-1] == _COLOURS:  # pixels, not normalised
        return np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)
    return np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)


def item_shape(path: Path, sizes: Sizes | None = None) -> tuple[int, ...]:
    """Return the shape of one item of a model's input; `sizes` are those of its open dimensions.

    Raises:
        ModelError: the file cannot be opened, or the shape is not fixed.
    """
    shape = _open(path, 1, **(sizes or {})).get_inputs()[0].shape[1:]
    if not all(isinstance(size, int) for size in shape):
        raise ModelError(f"{path} takes inputs of any size, {shape}; a fixed one is needed")
    return tuple(shape)
