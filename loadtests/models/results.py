"""Tables and the plot of what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtests.models.timing import Timing
from loadtests.report import table

_OURS: Final = "#1f77b4"
_OTHERS: Final = "#8c8c8c"


@dataclass(frozen=True, slots=True)
class Measured:
    """A network in a runtime: its size, time and accuracy."""

    name: str
    runtime: str
    side: str  # of the input: height x width, pixels
    macs: float  # millions of multiply-accumulates of a run
    parameters: float  # millions
    timing: Timing
    ap: float  # 0..1, average precision by COCO's protocol
    others: Mapping[str, float | None]  # further scores, 0..1; all networks of a table have the same names; None: not measured
    ours: bool = False  # made by this project


@dataclass(frozen=True, slots=True)
class Comparison:
    """Networks that do the same; times are compared with the first."""

    title: str
    score: str  # what AP is of, for the axis
    networks: Sequence[Measured]

    def table(self) -> list[str]:
        """Lines of a Markdown table."""
        return table([_row(network) for network in self.networks])

    def fastest(self) -> list[Measured]:
        """Every network once, in the runtime that runs it fastest."""
        best: dict[str, Measured] = {}
        for network in self.networks:
            if network.name not in best or network.timing.ms < best[network.name].timing.ms:
                best[network.name] = network
        return list(best.values())


def page(comparisons: Sequence[Comparison], about: Sequence[str], plot: str) -> str:
    """A Markdown page: what was measured and how, the plot, the tables.

    Args:
        comparisons: one table each.
        about: lines above the plot.
        plot: file name of the plot, beside the page.
    """
    lines = ["# Accuracy and time of the networks", "", *about, "", f"![AP over milliseconds]({plot})"]
    for comparison in comparisons:
        lines += ["", f"## {comparison.title}", "", *comparison.table()]
    return "\n".join(lines) + "\n"


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Plot AP over milliseconds, a panel for each comparison; every network in its fastest runtime, with the quartiles of its time.

    Args:
        comparisons: at least one.
        path: of the image; the suffix says of which kind.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - only the plot needs it
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415

    figure = Figure(figsize=(7 * len(comparisons), 5), layout="constrained")
    panels = figure.subplots(1, len(comparisons), squeeze=False)[0]
    for axes, comparison in zip(panels, comparisons, strict=True):
        for i, network in enumerate(sorted(comparison.fastest(), key=lambda one: one.ap)):
            timing, ap, colour = network.timing, network.ap, _OURS if network.ours else _OTHERS
            spread = [[timing.ms - timing.ms_low], [timing.ms_high - timing.ms]]
            axes.errorbar([timing.ms], [ap], xerr=spread, fmt="o", color=colour, capsize=3)
            label = f"{network.name}\n{network.runtime}"
            below = i % 2 == 0  # neighbours have their labels on different sides
            offset, align = ((6, -6), "top") if below else ((6, 6), "bottom")
            axes.annotate(label, (timing.ms, ap), xytext=offset, textcoords="offset points", va=align, fontsize=8, color=colour)
        axes.set(title=comparison.title, xlabel="milliseconds, one item, one thread", ylabel=comparison.score, xscale="log")
        axes.margins(x=0.25, y=0.15)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def _row(network: Measured) -> Mapping[str, Any]:
    timing = network.timing
    return {
        "network": network.name,
        "runtime": network.runtime,
        "input": network.side,
        "MMACs": f"{network.macs:.0f}",
        "M parameters": f"{network.parameters:.1f}",
        "ms [quartiles]": f"{timing.ms:.2f} [{timing.ms_low:.2f} {timing.ms_high:.2f}]",
        "times the first [quartiles]": f"{timing.ratio:.2f} [{timing.low:.2f} {timing.high:.2f}]",
        "AP": f"{network.ap:.3f}",
        **{name: None if score is None else f"{score:.3f}" for name, score in network.others.items()},
    }
