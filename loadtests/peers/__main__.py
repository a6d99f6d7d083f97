"""`python -m loadtests.peers setup`, then `run`: Posewire and its peers in one interleaved run."""

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from loadtests.peers.environments import PEERS, make
from loadtests.peers.race import race
from loadtests.processes import end_cleanly, stand_back
from loadtests.report import machine, save
from loadtests.sample_images import PEOPLE

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, help=__doc__)
_FOLDER = typer.Option(help="folder of the peers' environments")


@app.command()
def setup(environments: Annotated[Path, _FOLDER] = Path("out/peers-env")) -> None:
    """Make the peers' virtual environments, with pinned versions."""
    make(environments)


@app.command()
def run(
    rounds: Annotated[int, typer.Option(min=1)] = 10,
    slice_s: Annotated[float, typer.Option("--slice", min=1, help="seconds of one measurement")] = 2.5,
    plain: Annotated[Path | None, typer.Option(exists=True, help="ONNX file that the peers run as their pose model")] = None,
    people: Annotated[int, typer.Option(help=f"on the image: one of {', '.join(map(str, PEOPLE))}")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="peers to compare with; all")] = None,
    environments: Annotated[Path, _FOLDER] = Path("out/peers-env"),
    out: Annotated[Path, typer.Option(help="folder for results")] = Path("out/loadtests"),
) -> None:
    """Race them. Exit code 1: a peer is ahead."""
    if people not in PEOPLE:
        raise typer.BadParameter(f"{people} people: choose of {', '.join(map(str, PEOPLE))}")
    unknown = set(only or ()) - {peer.name for peer in PEERS}
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose of {', '.join(peer.name for peer in PEERS)}")
    chosen = [peer for peer in PEERS if not only or peer.name in only or peer.name == "posewire"]
    where = out / f"peers{'-plain' if plain else ''}{f'-{people}-people' if people > 1 else ''}"
    machine_now = machine()
    end_cleanly()
    stand_back()
    result = uvloop.run(race(chosen, rounds, slice_s, plain, environments, where, people))
    print(save(result, where, machine_now).read_text(encoding="utf-8"))
    raise typer.Exit(0 if result.passed else 1)


if __name__ == "__main__":
    app()
