"""`python -m loadtests.cameras soak | rate`: cameras over RTSP, with faults or in numbers. See README.md."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from loadtests.cameras.bench import Missing
from loadtests.cameras.rate import rate as measure_rate
from loadtests.cameras.soak import soak as run_soak
from loadtests.processes import end_cleanly
from loadtests.report import Result, machine, save
from loadtests.video.films import VTEST

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, help=__doc__)

Video = Annotated[Path, typer.Option(help="that the cameras show in a loop")]
Out = Annotated[Path, typer.Option(help="folder for results")]


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=2, help="of the whole; the number of faults grows with it")] = 30.0,
    seed: Annotated[int, typer.Option(help="of the plan of faults")] = 1,
    video: Video = VTEST,
    out: Out = Path("out/loadtests/cameras-soak"),
) -> None:
    """Kill source, broker and service again and again. Exit code 1: a promise was not kept."""
    _report(out, lambda folder: run_soak(folder, minutes, seed, video))


@app.command()
def rate(
    cameras: Annotated[str, typer.Option(help="how many at a time, separated by commas")] = "1,4,16",
    seconds: Annotated[float, typer.Option(min=5, help="of each number of cameras")] = 30.0,
    video: Video = VTEST,
    out: Out = Path("out/loadtests/cameras-rate"),
) -> None:
    """Count frames, and take their ages, with some cameras at 10 frames/s each."""
    counts = [int(count) for count in cameras.split(",") if count.strip().isdecimal() and int(count)]
    if len(counts) != len(cameras.split(",")):
        raise typer.BadParameter(f"--cameras {cameras}: numbers above 0, separated by commas, are needed")
    _report(out, lambda folder: measure_rate(folder, counts, seconds, video))


def _report(out: Path, run: Callable[[Path], Result]) -> None:
    end_cleanly()
    out = out.resolve()
    where = machine()
    try:
        result = run(out)
    except Missing as error:
        print(f"loadtests.cameras: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(save(result, out, where).read_text(encoding="utf-8"))
    raise typer.Exit(0 if result.passed else 1)


if __name__ == "__main__":
    app()
