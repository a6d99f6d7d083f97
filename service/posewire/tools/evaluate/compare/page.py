"""A comparison as one HTML page, without scripts and other files."""

from collections.abc import Iterable, Sequence
from typing import Final

from posewire.tools.evaluate.compare.bootstrap import CONFIDENCE, RESAMPLES, Difference
from posewire.tools.evaluate.compare.cases import DrawnCase, Kind
from posewire.tools.evaluate.compare.people import FOUND, MEAN_OKS
from posewire.tools.evaluate.compare.result import Comparison
from posewire.tools.evaluate.compare.text import counted, interval, quartiles, signed, value, verdict
from posewire.tools.evaluate.page import template

# The title of each kind of case, and what it is.
_TITLES: Final[dict[Kind, tuple[str, str]]] = {
    "a": ("A better than B", "People whom both found, the largest difference of OKS first. Only annotated keypoints are drawn."),
    "b": ("B better than A", "People whom both found, the largest difference of OKS first. Only annotated keypoints are drawn."),
    "missed": ("Missed people", "No prediction has an IoU of 0.5 with their box. People whom the other side found come first."),
    "false_a": ("False people of A", "Predictions that match nobody at an OKS of 0.5 and are nobody's box, by their score."),
    "false_b": ("False people of B", "Predictions that match nobody at an OKS of 0.5 and are nobody's box, by their score."),
}

_STEPS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)  # half the width of a plot


def comparison_page(comparison: Comparison, cases: Sequence[tuple[Kind, Sequence[DrawnCase]]], title: str) -> str:
    """Return the page.

    Args:
        comparison: all figures.
        cases: the worst cases of each kind, drawn.
        title: plain text.

    Raises:
        PosewireError: jinja2 is not installed.
    """
    figures = dict(comparison.ap) | {name: comparison.of_people[name] for name in (FOUND, MEAN_OKS)}
    oks, right = ({name: comparison.of_keypoint(kind, name) for name in comparison.counts} for kind in ("oks", "right"))
    times = comparison.milliseconds
    return str(
        template("comparison.html").render(
            title=title,
            comparison=comparison,
            sides=list(zip("AB", comparison.names, comparison.models, strict=True)),
            figures=figures,
            oks=oks,
            right=right,
            limits={"figures": _limit(figures.values()), "oks": _limit(oks.values())},
            times=(("A", times.a), ("B", times.b), ("B / A, of the same image", times.ratio)),
            cases=[(*_TITLES[kind], drawn) for kind, drawn in cases],
            confidence=f"{CONFIDENCE:.0%}",
            resamples=RESAMPLES,
            counted=counted(comparison),
            verdict=verdict(comparison),
            value=value,
            signed=signed,
            interval=interval,
            quartiles=quartiles,
        )
    )


def _limit(figures: Iterable[Difference]) -> float:
    """Return half the width of the plot in which all intervals have room."""
    ends = [abs(end) for figure in figures for end in (figure.low, figure.high) if end is not None]
    return next((step for step in _STEPS if step >= max(ends, default=0)), _STEPS[-1])
