"""A summary as one HTML page that needs nothing else: no script, no other file."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from posewire.tools.evaluate.plot import reliability_svg
from posewire.tools.evaluate.summary import Figures, Run, Summary
from posewire.tools.evaluate.text import cell, how
from posewire.tools.evaluate.worst import Shown

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8886; --bar: #2f7fd1; --fitted: #d1692f }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0 } caption { text-align: left; opacity: .8 }
td, th { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid var(--line) } th:first-child { text-align: left }
.scroll { overflow-x: auto } .pair { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; margin: 1.2rem 0 }
.pair figure { margin: 0 } .pair img { max-width: 100%; max-height: 26rem } figcaption { font-size: .85rem; opacity: .85 }
.pair h3 { grid-column: 1 / 3; font-size: .95rem; margin: 0 }
svg { width: 24rem; max-width: 100%; font-size: 11px } svg text { fill: currentColor } .bar { fill: var(--bar) } .raw { fill: var(--bar) }
.fitted { fill: var(--fitted) } .frame { fill: none; stroke: var(--line) } .diagonal { stroke: currentColor; stroke-dasharray: 4 }
"""

_JOINTS: Final = {
    "joints": "annotated joints of people who were found",
    "error": "mean distance, in units of the square root of the person's area",
    "oks": "mean of COCO's similarity of the joint alone",
    "right": "share whose similarity is at least 0.5",
    "score": "mean of the network's scores",
}
_GROUPS: Final = {
    "people": "annotated people",
    "AP": "keypoint AP of these people",
    "mean OKS": "of these people; 0 for one not found",
} | _JOINTS


def page(summary: Summary, runs: Sequence[Run], shown: Iterable[Shown], title: str) -> str:
    """The page.

    Args:
        summary: of the run in detail.
        runs: of all ways to run.
        shown: pictures, the worst first.
        title: what was evaluated on what; plain text.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{summary.people} people on {summary.pictures} pictures. In detail: {how(summary.run)}.",
        f"{summary.found:.1%} of the people were found.</p>",
        "<h2>COCO</h2>",
        _runs(runs),
        "<h2>Joints</h2>",
        _table("joint", summary.joints, _JOINTS),
        "<h2>Size</h2>",
        _table("size", summary.sizes, _GROUPS),
        "<h2>Occlusion</h2>",
        _table("of 17 joints", summary.occlusion, _GROUPS),
        "<h2>What a score means</h2>",
        _calibration(summary),
        "<h2>Worst pictures</h2>",
        *map(_pair, shown),
    ]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _runs(runs: Sequence[Run]) -> str:
    tables = []
    for what, figures_of in (
        ("keypoints", {how(r): r.keypoints for r in runs}),
        ("people's boxes", {how(r): r.boxes for r in runs if r.boxes}),
    ):
        if figures_of:
            columns = next(iter(figures_of.values()), None) or {}
            tables.append(_table(what, {name: figures or {} for name, figures in figures_of.items()}, dict.fromkeys(columns, "")))
    return "\n".join(tables)


def _table(what: str, rows: Mapping[str, Figures], columns: Mapping[str, str]) -> str:
    head = "".join(f'<th title="{escape(told)}">{escape(name)}</th>' for name, told in columns.items())
    body = "\n".join(
        f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{cell(figures, column)}</td>" for column in columns) + "</tr>"
        for name, figures in rows.items()
    )
    return f'<div class="scroll"><table><tr><th>{escape(what)}</th>{head}</tr>\n{body}</table></div>'


def _calibration(summary: Summary) -> str:
    raw = summary.reliability
    told = f"ECE {raw.ece:.3f}, Brier {raw.brier:.3f}"
    if summary.calibrated:
        curve, after = summary.calibrated
        told += f"; orange, with the fitted sigmoid({curve.scale:.3f} logit(score) {curve.shift:+.3f}): "
        told += f"ECE {after.ece:.3f}, Brier {after.brier:.3f}"
    why = "Bars: the share of joints that are right, of each tenth of the scores. On the diagonal a score is the chance to be right."
    parts = [f"<p>{told}. {why}</p>", reliability_svg(raw, summary.calibrated[1] if summary.calibrated else None)]
    if summary.boxes:
        boxes = summary.boxes
        parts += [
            f"<p>The detector's scores: ECE {boxes.ece:.3f}, Brier {boxes.brier:.3f}. A box is right at an IoU of 0.5 or more.</p>",
            reliability_svg(boxes, None, "boxes"),
        ]
    return "\n".join(parts)


def _pair(shown: Shown) -> str:
    told = ", ".join(f"{oks:.2f}" for oks in shown.oks)
    sides = "".join(
        f'<figure><img alt="{what}" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}"><figcaption>{what}</figcaption></figure>'
        for what, data in (("annotated", shown.annotated), ("found", shown.found))
    )
    return f'<div class="pair"><h3>{escape(shown.name)}: OKS {told}</h3>{sides}</div>'
