"""Results as JSON, and as a Markdown page with tables and plots."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtests.processes import ROOT

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines of one image; each is a list of x and a list of y."""

    name: str
    x: str
    y: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    log: bool = False


@dataclass(slots=True)
class Result:
    """The results of a scenario."""

    scenario: str
    shows: str  # in a few sentences
    tables: dict[str, list[Row]] = field(default_factory=dict)  # rows of a table have the same keys
    checks: dict[str, bool] = field(default_factory=dict)  # what was promised, and whether it held
    plots: list[Plot] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)  # all figures, for the JSON

    @property
    def passed(self) -> bool:
        """True if every check held."""
        return all(self.checks.values())


def machine() -> dict[str, Any]:
    """Where and with what a result was made."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "commit": _git("rev-parse", "--short=12", "HEAD") + ("+changes" if _git("status", "--porcelain", "-uno") else ""),
        "command": shlex.join(["python", "-m", _module(), *sys.argv[1:]]),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def save(result: Result, out: Path, where: Mapping[str, Any]) -> Path:
    """Write result.json, report.md and its plots into `out`; the report's path.

    Args:
        result: to be saved.
        out: folder; made where it is missing.
        where: `machine()` of the moment at which the measurement began: the checkout may have moved since.
    """
    out.mkdir(parents=True, exist_ok=True)
    document = {"scenario": result.scenario, "machine": where, "passed": result.passed, "checks": result.checks, "tables": result.tables}
    (out / "result.json").write_text(json.dumps(document | {"raw": result.raw}, indent=1) + "\n", encoding="utf-8")
    images = [_draw(plot, out) for plot in result.plots]
    report = out / "report.md"
    report.write_text(markdown(result, where, [p.name for p in images]), encoding="utf-8")
    return report


def markdown(result: Result, where: Mapping[str, Any], images: Sequence[str] = ()) -> str:
    """The page."""
    lines = [f"# {result.scenario}", "", result.shows, "", f"`{where['command']}` at {where['commit']}, {where['when']}:"]
    lines += [f"{where['cores']} cores of {where['cpu']}, Python {where['python']}, ONNX Runtime {where['onnxruntime']}.", ""]
    lines += [f"- {'held' if held else '**NOT HELD**'}: {check}" for check, held in result.checks.items()]
    for title, rows in result.tables.items():
        lines += ["", f"## {title}", "", *table(rows)]
    lines += ["", *(f"![{name}]({name})" for name in images)]
    return "\n".join(lines).rstrip() + "\n"


def table(rows: Sequence[Row]) -> list[str]:
    """Rows as lines of a Markdown table; an empty cell stands for None."""
    if not rows:
        return []
    names = list(rows[0])
    body = ["| " + " | ".join("" if row[name] is None else str(row[name]) for name in names) + " |" for row in rows]
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names), *body]


def row(label: Mapping[str, Any], summary: Mapping[str, Any], usage: Mapping[str, Any]) -> Row:
    """One line of the tables that most scenarios have."""
    ok, rejected = summary["ok_ms"], summary["rejected_ms"]
    return {
        **label,
        "answers/s": summary["throughput"],
        "goodput/s": summary["goodput"],
        **{f"{name} ms": ok[name] for name in ("p50", "p90", "p99", "p99.9")},
        "rejected": summary["rejected"],
        "rejected p99 ms": rejected["p99"],
        "lost": summary["lost"],
        "server cores": usage["server_cores"],
        "generator cores": usage["generator_cores"],
        "memory MB": usage["memory_end_mb"],
    }


def _draw(plot: Plot, out: Path) -> Path:
    from matplotlib.figure import Figure  # noqa: PLC0415 - only the plots need it

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, (x, y) in plot.lines.items():
        axes.plot(x, y, marker="." if len(x) < 50 else "", label=name, linewidth=1)
    axes.set(xlabel=plot.x, ylabel=plot.y, title=plot.name)
    if plot.log:
        axes.set(xscale="log", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    path = out / f"{plot.name.replace(' ', '-')}.png"
    figure.savefig(path, dpi=100)
    return path


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")


def _module() -> str:
    """Return the name of the package that runs, such as `loadtests.peers`."""
    folder = Path(sys.argv[0]).resolve().parent
    return ".".join(folder.relative_to(ROOT).parts) if folder.is_relative_to(ROOT / "loadtests") else "loadtests"


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else "no commit"
