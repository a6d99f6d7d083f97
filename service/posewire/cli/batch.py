"""`posewire batch`: the images of folders, archives, tables and videos as tables of results, which a further run completes."""

import asyncio
import sys
from collections.abc import Callable

from rich.console import Console

from posewire.batch.batching import Batch, BatchOptions
from posewire.batch.tally import Tally
from posewire.cli.progress import batch_progress
from posewire.cli.stopping import Stopped, cancelled_at_signals
from posewire.config import Settings
from posewire.errors import PosewireError
from posewire.telemetry.logs import configure_logging
from posewire.words import counted

_FAILED = 3  # exit code: everything is done, and some images have no result


def batch(options: BatchOptions, settings: Settings, ray: str | None) -> int:
    """Process what is not done yet.

    Returns:
        0: every image has a result. 3: the images without one are in the table of failures. 130, 143, 129: Ctrl-C, SIGTERM or SIGHUP came.

    Raises:
        PosewireError: it cannot go on; the message says why.
    """
    configure_logging(settings.log_level)
    try:
        with Batch.open(options, settings, sys.stdin.buffer) as opened:
            return _run(opened, ray)
    except KeyboardInterrupt:
        code = 130
    except Stopped as stopped:
        code = stopped.status
    Console(stderr=True).print("stopped; the same command goes on")
    return code


def _run(opened: Batch, ray: str | None) -> int:
    if opened.output.found.removed:
        files = counted(len(opened.output.found.removed), "unfinished file", "unfinished files")
        print(f"posewire: {files} of an earlier run removed", file=sys.stderr)
    with batch_progress(opened.tally) as show:
        try:
            if ray is None:
                asyncio.run(_run_here(opened, show))
            else:
                from posewire.batch.on_ray import run_on_ray

                run_on_ray(opened, ray, show)
        except PosewireError as error:
            raise PosewireError(f"{error}; the same command goes on") from None
    _report(opened)
    return _FAILED if opened.output.failures else 0


async def _run_here(opened: Batch, show: Callable[[Tally], None]) -> None:
    with cancelled_at_signals():
        await opened.run(show)


def _report(opened: Batch) -> None:
    tally, output = opened.tally, opened.output
    done = tally.images + tally.failures
    rate = f" ({done / opened.seconds:.1f} images/s)" if done else ""
    before = f", {tally.done_before} {'was' if tally.done_before == 1 else 'were'} done before" if tally.done_before else ""
    print(f"{counted(done, 'image', 'images')} in {opened.seconds:.1f} s{rate}{before}")
    failures = f"; {output.failures} failed: {output.failures_at}" if output.failures else ""
    images, people = counted(output.images, "image", "images"), counted(output.people, "person", "people")
    print(f"{output.address}: {images} with {people}{failures}")
