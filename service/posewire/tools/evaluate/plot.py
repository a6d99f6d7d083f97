"""The reliability plot as SVG."""

from collections.abc import Sequence

from posewire.tools.evaluate.reliability import Bin, Reliability

_SIDE, _LEFT, _TOP = 280, 44, 10  # pixels


def reliability_svg(raw: Reliability, calibrated: Reliability | None, what: str = "joints") -> str:
    """Share of right answers over score: a bar a tenth, as wide as its tenth and as dark as it has answers; scores that mean what they say
    lie on the diagonal.

    Args:
        raw: of the network's scores: bars, and dots at their mean scores.
        calibrated: of the scores by a fitted curve: a second row of dots; None: there is none.
        what: the answers are, in the plural.
    """
    most = max((b.count for b in raw.bins), default=1)
    bars = (
        f'<rect x="{_x(b.low):.1f}" y="{_y(b.right):.1f}" width="{_SIDE * (b.high - b.low) - 1:.1f}" height="{_SIDE * b.right:.1f}"'
        f' class="bar" fill-opacity="{0.15 + 0.6 * b.count / most:.2f}"><title>{_title(b, what)}</title></rect>'
        for b in raw.bins
    )
    ticks = (
        f'<text x="{_x(t):.0f}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{t:.1f}</text>'
        f'<text x="{_LEFT - 6}" y="{_y(t) + 4:.0f}" text-anchor="end">{t:.1f}</text>'
        for t in (0, 0.2, 0.4, 0.6, 0.8, 1)
    )
    parts = [
        f'<svg viewBox="0 0 {_LEFT + _SIDE + 16} {_TOP + _SIDE + 40}" role="img" aria-label="Share of right {what} over their score">',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" class="frame"/>',
        *bars,
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" class="diagonal"/>',
        *_dots(raw.bins, "raw", what),
        *_dots(calibrated.bins if calibrated else (), "fitted", what),
        *ticks,
        f'<text x="{_LEFT + _SIDE / 2}" y="{_TOP + _SIDE + 34}" text-anchor="middle">score</text>',
        "</svg>",
    ]
    return "\n".join(parts)


def _dots(bins: Sequence[Bin], kind: str, what: str) -> list[str]:
    dot = '<circle cx="{:.1f}" cy="{:.1f}" r="4" class="{}"><title>{}</title></circle>'
    return [dot.format(_x(b.score), _y(b.right), kind, _title(b, what)) for b in bins]


def _title(b: Bin, what: str) -> str:
    return f"{b.count} {what} of score {b.score:.3f}: {b.right:.1%} right"


def _x(value: float) -> float:
    return _LEFT + _SIDE * value


def _y(value: float) -> float:
    return _TOP + _SIDE * (1 - value)
