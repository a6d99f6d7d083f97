"""`python -m loadtests SCENARIO…`: start the service, load it, print and save what was found."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from loadtests import limits, overload, rude, scenarios, soak
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
}


def main(
    names: Annotated[list[str], typer.Argument(help=f"{', '.join(SCENARIOS)}, soak; or all (without the soak)")],
    seconds: Annotated[float, typer.Option(min=1, help="of one stretch of load; a scenario has a few")] = 10.0,
    minutes: Annotated[float, typer.Option(min=0.1, help="of the soak")] = 10.0,
    out: Annotated[Path, typer.Option(help="folder for results")] = Path("out/loadtests"),
) -> None:
    """Load the service of this checkout on this machine. Exit code 1: a promise was not kept."""
    wanted = list(SCENARIOS) if names == ["all"] else names
    unknown = [name for name in wanted if name not in SCENARIOS and name != "soak"]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose of {', '.join(SCENARIOS)}, soak, all")
    end_cleanly()
    stand_back()
    kept = True
    for name in wanted:
        where = machine()
        result = uvloop.run(_run(name, seconds, minutes, out / name))
        print(save(result, out / name, where).read_text(encoding="utf-8"))
        kept = kept and result.passed
    raise typer.Exit(0 if kept else 1)


async def _run(name: str, seconds: float, minutes: float, out: Path) -> Result:
    """One scenario against a server of its own: what came before leaves no trace."""
    port = await asyncio.to_thread(free_port)
    if name == "soak":
        return await soak.soak(out, minutes, port)
    with posewire(out, port) as server:
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
