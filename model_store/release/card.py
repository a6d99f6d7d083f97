"""The model card, out of its template."""

from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Final

from model_store.release.request import Request
from model_store.release.scoring import Scored
from posewire.registry.specs import Task
from posewire.tools.evaluate.summary import Summary
from posewire.tools.evaluate.text import cell

_TEMPLATE: Final = Template((Path(__file__).parent / "card.md").read_text())

_POSE: Final = """\
- `input`: (batch, 3, {height}, {width}) float32, **RGB**, height first; (channel - mean) / std with mean 123.675, 116.28, 103.53
  and std 58.395, 57.12, 57.375 of channels 0..255. The batch is dynamic.
- The crop: the person's box, widened or heightened to the input's shape about its centre, then enlarged 1.25 times; its centre goes
  to crop pixel ({x:g}, {y:g}). Cut out with one affine and bilinear interpolation; what lies outside the image is black.
- `heatmaps`: (batch, 17, {rows}, {columns}) float32, peaks up to about 1. Heatmap pixel (x, y) is crop pixel (4x, 4y), without a half-pixel
  offset. The targets were Gaussians with a sigma of {sigma:g} heatmap pixels.
- Channels: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right. Left is the person's own left."""

_DETECTOR: Final = """\
- `images`: (batch, {height}, {width}, 3) uint8, **RGB**, without normalisation. The batch is open, and so are height and width, which
  are multiples of 32: the same file serves other sizes.
- The letterbox: the image is scaled by s = min({height} / height, {width} / width) and lies at the **top left**; the rest is
  filled with 114 in all channels.
- `boxes_scores`: (batch, cells, 5) float32: x0, y0, x1, y1 in pixels of the input (divide by s for the image), and a score 0..1.
  Cells are those of strides 8, 16, 32, in this order. Boxes may leave the image.
- Non-maximum suppression is not in the graph; the manifest asks for an IoU of 0.65. There is one class: person."""

_USE: Final[dict[Task, str]] = {
    "pose": """\
Made for demonstrations, tests and as a start for training. Not for decisions about people, nor for medical, safety or surveillance
use. It does not identify anyone. Accuracy was **not** measured by age, sex, skin tone, clothing or disability: what is rare in the
data is likely to go wrong more often.""",
    "detector": """\
Made for demonstrations, tests and as a start for training. Do not count people with it, and do not use it where a missed person is a
danger (machines, vehicles), nor for surveillance. It does not identify anyone. Accuracy was **not** measured by age, sex, skin tone,
clothing or disability: what is rare in the data is likely to be missed more often.""",
}


def card(request: Request, scored: Scored, *, comparison: str, parity: Sequence[str]) -> str:
    """The card in Markdown.

    Args:
        request: what is released.
        scored: its accuracy.
        comparison: how it stands to what shipped.
        parity: what was compared with what, a sentence each.
    """
    network, about = request.network, request.about
    size = {"height": network.height, "width": network.width, "x": network.width / 2, "y": network.height / 2}
    size |= {"rows": network.height // 4, "columns": network.width // 4, "sigma": network.described()["output"].get("sigma")}
    filled = {
        **{"name": request.name, "title": about.title, "data": about.data, "recipe": about.recipe, "limits": about.limits.strip()},
        "interface": (_POSE if network.task == "pose" else _DETECTOR).format(**size),
        "dataset": request.dataset,
        "accuracy": _accuracy(scored),
        "comparison": comparison,
        "detail": _detail(scored.summary) if scored.summary else "",
        "parity": "\n".join(f"- {line[:1].upper()}{line[1:]}." for line in parity),
        "scores": _scores(scored),
        "use": _USE[network.task],
        "terms": about.terms.strip(),
    }
    return _TEMPLATE.substitute(filled).rstrip() + "\n"


def _accuracy(scored: Scored) -> str:
    rows = [f"| {figure.metric} | {figure.value:.3f} |" for figure in scored.figures]
    commands = dict.fromkeys(f"    {figure.command}" for figure in scored.figures)
    return "\n".join(["| | |", "|---|---|", *rows, "", *commands])


def _detail(summary: Summary) -> str:
    columns = ("error", "right", "score")
    rows = [f"| {name} | " + " | ".join(cell(figures, c) for c in columns) + " |" for name, figures in summary.joints.items()]
    head = "With ground-truth boxes, by joint: mean error in units of the square root of the person's area, share that is right (COCO's\n"
    head += "similarity of the joint at least 0.5), mean score.\n\n| joint | error | right | score |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n\n"


def _scores(scored: Scored) -> str:
    ece = scored.reliability.ece
    if scored.summary is None:
        return f"A person's score is the chance that the box is right (IoU 0.5 or more), but for {ece:.3f} (expected calibration error)."
    told = f"A keypoint's score is the chance that it is right, but for {ece:.3f} (expected calibration error)."
    return f"{told} Hidden keypoints get a place too."
