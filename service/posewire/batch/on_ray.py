"""A batch on Ray: sources are read by tasks, and an actor for each GPU or core runs the models. The driver alone writes the results.

Ray Data limits what is in memory, and repeats the work of a process that has died: https://docs.ray.io/en/latest/data/data.html.
"""

import logging
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import cv2

from posewire.backends.cpu_limit import cpu_limit
from posewire.batch.batching import Batch
from posewire.batch.items import Ended, Failure, Item, Outcome, Read, Unread
from posewire.batch.reading import ReadingOptions, load, read_items
from posewire.batch.run import Run
from posewire.batch.saving import Pending
from posewire.batch.sources import Source
from posewire.batch.tables import import_parquet
from posewire.batch.tally import Tally
from posewire.config import Device, Settings
from posewire.errors import InferenceFailed, ModelError, NotInstalled, OutOfMemory, PosewireError, ServiceError
from posewire.pipeline.loading import plan_device
from posewire.pipeline.pose_pipeline import ImageJob, load_pipeline
from posewire.registry.choice import choose
from posewire.registry.store import open_store
from posewire.types import Frame, PoseResult

LOCAL: Final = "local"  # the address of a Ray that this process starts

# Bytes of a block: an actor takes a block at a time, and repeats it if it dies.
_BLOCK_BYTES: Final = 2_000_000
_BATCH: Final = 16  # images of one call of an actor
_FILES: Final = 64  # images with files of their own that are read by one task
_READERS: Final = 2  # tasks that read sources, for each actor
_STORE_BYTES: Final = 500_000_000  # of shared memory, of a Ray that is started here
_TRIES: Final = 3  # repetitions of a block whose actor has died: an image may be the cause
# Warnings of Ray Data that say nothing here: it knows neither how many images a source has, nor a new name for the repetitions.
_NO_NEWS: Final = (
    "The maximum number of concurrent tasks",
    "The minimum number of concurrent actors",
    "`ray_remote_args` is deprecated and will be removed in Ray 2.64",
)
_ITEM: Final = "item"  # the column of all data sets: pickled items and outcomes of this module


def run_on_ray(batch: Batch, address: str, on_change: Callable[[Tally], None]) -> None:
    """Process what is not done on a Ray cluster, and complete the results. At an error or a signal, what has come back is written.

    Posewire with the same models, and the sources, must be reachable from every machine of the cluster.

    Args:
        batch: opened.
        address: of the cluster, as `ray.init` takes it; `LOCAL`: a Ray that is started here and ends with this call.
        on_change: called after each image.

    Raises:
        NotInstalled: Ray is not installed.
        PosewireError: it cannot go on; the message says why. The same call goes on later.
    """
    if batch.todo:
        ray = _import_ray()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _connect(ray, address, batch.settings)
            for beginning in _NO_NEWS:
                warnings.filterwarnings("ignore", message=beginning)
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end the process before anything is written
            _process(ray, batch, on_change)
        except ray.exceptions.RayError as error:
            raise PosewireError(f"Ray: {_last_line(error)}") from None
        finally:
            ray.shutdown()
    batch.output.finish(batch.seconds)


def _import_ray() -> Any:
    # Ray reads these at its import. Nothing of it reports to its maker, and it leaves the choice of GPUs to CUDA where an actor has none.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.data  # noqa: PLC0415
    except ImportError:
        raise NotInstalled("--ray needs Ray, which is not installed here: pip install 'posewire[ray]'") from None
    return ray


def _connect(ray: Any, address: str, settings: Settings) -> None:
    """Start a Ray here, or connect to a cluster.

    Raises:
        PosewireError: there is no cluster at the address.
    """
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        cores = settings.workers or cpu_limit()
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises plain ones
        raise PosewireError(f"--ray {address}: {_last_line(error)}") from None


def _process(ray: Any, batch: Batch, on_change: Callable[[Tally], None]) -> None:
    pending = batch.pending(on_change)
    back = Returned(pending, batch.todo, batch.output.found.done)
    try:
        for block in _dataset(ray, batch).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for one in _items(block):
                back.take(one)
                if pending.full:
                    pending.take()()
    finally:
        pending.take()()
    back.check()


def _dataset(ray: Any, batch: Batch) -> Any:
    """Return the data set of outcomes: sources, read by tasks, then estimated by actors."""
    data, settings, done = ray.data, batch.settings, batch.output.found.done
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = _BLOCK_BYTES
    gpus = 0 if settings.device is Device.CPU else int(ray.cluster_resources().get("GPU", 0))
    actors = gpus or settings.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    groups = list(_groups(batch.todo))
    sources = data.from_arrow([_table([group]) for group in groups])
    # Readers ask for no core: with one actor a core, they would wait for ever.
    read = sources.map_batches(
        _read,
        fn_kwargs={"options": batch.reading, "done": frozenset(done)},
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        compute=data.TaskPoolStrategy(size=_READERS * actors),
    )
    return read.map_batches(
        PoseActor,
        fn_constructor_kwargs={"settings": settings, "run": batch.identity},
        batch_size=_BATCH,
        batch_format="pyarrow",
        num_cpus=0 if gpus else 1,
        num_gpus=1 if gpus else None,
        compute=data.ActorPoolStrategy(size=actors),
        max_task_retries=_TRIES,
    )


def _groups(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Yield the sources that one task reads: one with several images, or some images, in their order."""
    group: list[Source] = []
    for source in sources:
        if source.kind != "image":
            yield [source]
            continue
        group.append(source)
        if len(group) == _FILES:
            yield group
            group = []
    if group:
        yield group


def _read(groups: Any, options: ReadingOptions, done: frozenset[bytes]) -> Iterator[Any]:
    """Yield the images of some sources, one at a time; runs as a task of Ray."""
    for sources in _items(groups):
        for source in sources:
            for read in read_items(source, options, done):
                yield _table([_loaded(read, options.max_bytes)])


def _loaded(read: Read, max_bytes: int) -> Read:
    if isinstance(read, Item) and isinstance(read.content, Unread):
        return replace(read, content=load(read.content, max_bytes))
    return read


class PoseActor:
    """A pipeline in a process of Ray.

    Args:
        settings: with the models pinned.
        run: whose results are wanted.

    Raises:
        ModelError: this machine has other models of these names.
    """

    def __init__(self, settings: Settings, run: Run) -> None:
        cv2.setNumThreads(1)  # images run side by side, one in each actor
        settings = settings.model_copy(update={"threads": 1})
        choice = choose(settings, open_store(settings).manifest)
        if Run.of(settings, choice, run.form, run.column, run.fps) != run:
            raise ModelError("a machine of the cluster has another version of Posewire or other models; install the same everywhere")
        plan = plan_device(settings)
        self._pipeline = load_pipeline(settings, plan)
        self._options = settings.pose_options()
        self._together = plan.device is not Device.CPU  # large batches use a GPU better than single items

    def __call__(self, batch: Any) -> Any:
        """Return a table of what comes of a table of items; the ends of sources pass through."""
        reads: list[Read] = list(_items(batch))
        images = {number: read.content for number, read in enumerate(reads) if isinstance(read, Item)}
        jobs = {number: ImageJob(one, self._options) for number, one in images.items() if isinstance(one, bytes | Frame)}
        results = dict(zip(jobs, self._estimate(list(jobs.values())), strict=True))
        return _table([_outcome(read, results.get(number)) for number, read in enumerate(reads)])

    def _estimate(self, jobs: Sequence[ImageJob]) -> list[PoseResult | Failure]:
        if self._together and len(jobs) > 1:
            try:
                return list(self._pipeline.estimate(jobs))
            except ServiceError:  # of one of them
                pass
        return [self._estimate_one(job) for job in jobs]

    def _estimate_one(self, job: ImageJob) -> PoseResult | Failure:
        for left in reversed(range(_TRIES)):
            try:
                return self._pipeline.estimate([job])[0]
            except (InferenceFailed, OutOfMemory) as error:
                if not left:
                    return Failure(error.slug, error.detail)
            except ServiceError as error:
                return Failure(error.slug, error.detail)
        raise AssertionError("unreachable")


def _outcome(read: Read, result: PoseResult | Failure | None) -> Outcome | Ended:
    if isinstance(read, Ended):
        return read
    if result is None:
        assert isinstance(read.content, Failure)
        result = read.content
    return Outcome(read.key, result, read.weight, read.time_ms)


class Returned:
    """Takes what comes back from actors, in any order, and nothing of it twice.

    Args:
        pending: gets each outcome once, and the end of a source after all its images.
        todo: the sources that are processed.
        done: digests of the images that runs before have done.
    """

    def __init__(self, pending: Pending, todo: Sequence[Source], done: Collection[bytes]) -> None:
        self._pending = pending
        self._done = set(done)
        self._images = {source.name: 0 for source in todo if source.kind != "image"}  # that have come back
        self._files = sum(source.kind == "image" for source in todo)  # that have not come back
        self._ended: dict[str, Ended] = {}

    def take(self, back: Outcome | Ended) -> None:
        """Take an outcome or an end."""
        if isinstance(back, Ended):
            if back.source not in self._ended:
                self._ended[back.source] = back
                self._end(back.source)
        elif (digest := back.key.digest()) not in self._done:
            self._done.add(digest)
            self._pending.add(back)
            if back.key.source in self._images:
                self._images[back.key.source] += 1
                self._end(back.key.source)
            else:
                self._files -= 1

    def check(self) -> None:
        """Check that everything has come back.

        Raises:
            PosewireError: images or sources have not.
        """
        lost = [name for name, images in self._images.items() if name not in self._ended or images != self._ended[name].new]
        if self._files or lost:
            what = f"{self._files} images" if self._files else f"a part of {lost[0]}"
            raise PosewireError(f"Ray has ended without an error, but {what} did not come back")

    def _end(self, source: str) -> None:
        ended = self._ended.get(source)
        if ended is not None and self._images[source] == ended.new:
            self._pending.end(ended)


def _table(items: Sequence[object]) -> Any:
    arrow, _ = import_parquet()
    return arrow.table({_ITEM: arrow.array([pickle.dumps(item) for item in items], arrow.large_binary())})


def _items(table: Any) -> Iterator[Any]:
    """Yield the items of a table that `_table` has made in another process of this cluster."""
    return (pickle.loads(data) for data in table.column(_ITEM).to_pylist())  # noqa: S301 - our own


def _last_line(error: BaseException) -> str:
    """Return the line of an error of Ray that tells the cause: the text is the traceback of another process."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
