"""`python -m loadtests SCENARIO…`: start the service, load it, print and save what was found."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from loadtests import attacks, batches, limits, overload, rude, scenarios, soak, webrtc
from loadtests.attackers import ATTACKS
from loadtests.hostile.long import Counts, hostile
from loadtests.processes import end_cleanly, posewire, stand_back
from loadtests.report import Result, machine, save
from loadtests.scenarios import Bench, served_models

SCENARIOS: dict[str, Callable[[Bench], Awaitable[Result]]] = {
    "single": scenarios.single,
    "people": scenarios.people,
    "mixed": scenarios.mixed,
    "bursts": scenarios.bursts,
    "clients": scenarios.clients,
    "slow": rude.slow,
    "vanishing": rude.vanishing,
    "overload": overload.overload,
    "saturation": limits.saturation,
    "overhead": limits.overhead,
    "webrtc": webrtc.webrtc,
}
# Needs an extra, and compares two ways of one service.
BY_HAND = ("webrtc",)
# These start services of their own, and are not part of `all`.
LONG = ("soak", "attacks", "hostile", "batch")


def main(
    names: Annotated[list[str], typer.Argument(help=f"{', '.join((*SCENARIOS, *LONG))}; or all (without {', '.join((*BY_HAND, *LONG))})")],
    seconds: Annotated[float, typer.Option(min=1, help="of one stretch of load, or of one attack; a scenario has a few stretches")] = 10.0,
    minutes: Annotated[float, typer.Option(min=0.1, help="of the soak, and at most of each kind of hostile input")] = 10.0,
    images: Annotated[int | None, typer.Option(min=0, help="damaged images of hostile; images of batch, 50,000 by default")] = None,
    videos: Annotated[int, typer.Option(min=0, help="damaged videos of hostile")] = Counts().videos,
    requests: Annotated[int, typer.Option(min=0, help="damaged HTTP requests of hostile")] = Counts().requests,
    calls: Annotated[int, typer.Option(min=0, help="calls of hostile by Schemathesis")] = Counts().calls,
    attack: Annotated[list[str] | None, typer.Option(help=f"of attacks; all by default: {', '.join(ATTACKS)}")] = None,
    out: Annotated[Path, typer.Option(help="folder for results")] = Path("out/loadtests"),
) -> None:
    """Load the service of this checkout on this machine. Exit code 1: a promise was not kept."""
    wanted = [name for name in SCENARIOS if name not in BY_HAND] if names == ["all"] else names
    if unknown := [name for name in wanted if name not in (*SCENARIOS, *LONG)]:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose of {', '.join((*SCENARIOS, *LONG))}, all")
    if unknown := [name for name in attack or () if name not in ATTACKS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose of {', '.join(ATTACKS)}")
    end_cleanly()
    stand_back()
    kept = True
    for name in wanted:
        where = machine()
        if name == "soak":
            result = uvloop.run(soak.soak(out / name, minutes, free_port()))
        elif name == "attacks":
            result = uvloop.run(attacks.attacks(out / name, attack or (), seconds, free_port))
        elif name == "batch":
            result = uvloop.run(batches.batch(out / name, images or batches.IMAGES, free_port()))
        elif name == "hostile":
            counts = Counts(Counts().images if images is None else images, videos, requests, calls)
            result = uvloop.run(hostile(out / name, counts, minutes, free_port()))
        else:
            result = uvloop.run(_run(name, seconds, out / name))
        print(save(result, out / name, where).read_text(encoding="utf-8"))
        kept = kept and result.passed
    raise typer.Exit(0 if kept else 1)


async def _run(name: str, seconds: float, out: Path) -> Result:
    """One scenario against a server of its own: what came before leaves no trace."""
    with posewire(out, await asyncio.to_thread(free_port)) as server:
        bench = Bench(server, seconds, out)
        models = await served_models(bench.target)
        result = await SCENARIOS[name](bench)
    result.tables["Served by"] = models
    return result


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
