"""A comparison as text lines for a terminal."""

from collections.abc import Iterator, Mapping

from posewire.tools.evaluate.compare.bootstrap import CONFIDENCE, RESAMPLES, Difference
from posewire.tools.evaluate.compare.people import FOUND, MEAN_OKS
from posewire.tools.evaluate.compare.result import Comparison, Spread


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Yield both sides, the figures with their intervals, and the milliseconds."""
    for side, name, models in zip("AB", comparison.names, comparison.models, strict=True):
        yield f"{side}  {name}: {models}"
    yield f"{counted(comparison)}; {RESAMPLES} paired resamples of the images"
    yield ""
    yield verdict(comparison)
    yield ""
    yield from _table("", dict(comparison.ap) | {name: comparison.of_people[name] for name in (FOUND, MEAN_OKS)})
    for kind, title in (("oks", "similarity (OKS)"), ("right", "right (OKS 0.5)")):
        yield ""
        yield from _table(title, {name: comparison.of_keypoint(kind, name) for name in comparison.counts}, comparison.counts)
    yield ""
    times = comparison.milliseconds
    yield f"{'ms an image':<20}{'median':>9}{'p95':>9}{'quartiles':>18}"
    for name, spread in (("A", times.a), ("B", times.b), ("B / A", times.ratio)):
        yield f"{name:<20}{spread.median:>9.2f}{spread.p95:>9.2f}{quartiles(spread):>18}"


def counted(comparison: Comparison) -> str:
    """Return the numbers of people and images, and how people were given."""
    boxes = "ground-truth boxes" if comparison.boxes_from == "gt" else "boxes of each side's detector"
    flip = ", flip test" if comparison.flip_test else ""
    return f"{comparison.people} people on {comparison.images} images, {boxes}{flip}"


def verdict(comparison: Comparison) -> str:
    """Return what the interval of AP says, in one sentence or two."""
    figure = comparison.ap["AP"]
    if figure.difference is None or figure.low is None or figure.high is None:
        return "AP has no interval: too few of the images have people."
    told = f"AP of B minus AP of A is {signed(figure.difference)}, and its {CONFIDENCE:.0%} interval is {interval(figure)}."
    if not figure.excludes_zero:
        return f"{told} The interval contains 0: these images do not show which is better."
    return f"{told} {'B' if figure.low > 0 else 'A'} is better on images like these."


def value(number: float | None) -> str:
    """Format a figure; a dash if it is not defined."""
    return "-" if number is None else f"{number:.3f}"


def signed(number: float | None) -> str:
    """Format a difference with its sign; a dash if it is not defined."""
    return "-" if number is None else f"{number:+.3f}".replace("-0.000", "+0.000")


def interval(figure: Difference) -> str:
    """Format the interval of a difference; a dash if it has none."""
    return "-" if figure.low is None else f"{signed(figure.low)} to {signed(figure.high)}"


def quartiles(spread: Spread) -> str:
    """Format the first and the third quartile."""
    return f"{spread.q1:.2f} to {spread.q3:.2f}"


def _table(title: str, figures: Mapping[str, Difference], counts: Mapping[str, int] | None = None) -> Iterator[str]:
    number = f"{'number':>9}" if counts else ""
    yield f"{title:<20}{number}{'A':>9}{'B':>9}{'B - A':>9}{f'{CONFIDENCE:.0%} interval':>21}"
    for name, figure in figures.items():
        number = f"{counts[name]:>9}" if counts else ""
        mark = " *" if figure.excludes_zero else ""
        yield f"{name:<20}{number}{value(figure.a):>9}{value(figure.b):>9}{signed(figure.difference):>9}{interval(figure):>21}{mark}"
