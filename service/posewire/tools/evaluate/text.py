"""A summary as text lines for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from posewire.tools.evaluate.reliability import Reliability
from posewire.tools.evaluate.summary import Figures, Run, Summary

_JOINT_COLUMNS = ("joints", "error", "oks", "right", "score")
_GROUP_COLUMNS = ("people", "AP", "mean OKS", *_JOINT_COLUMNS)


def lines(summary: Summary, runs: Sequence[Run]) -> Iterator[str]:
    """Yield COCO's figures of every run, then the first run in detail."""
    for run in runs:
        yield f"{how(run)}, {summary.people} people on {summary.images} images"
        for kind, values in (("keypoints", run.keypoints), ("boxes", run.boxes)):
            if values is not None:
                yield f"{kind:<9}  " + "  ".join(f"{name} {cell(values, name)}" for name in values)
    yield ""
    yield f"{how(summary.run)}, in detail: {summary.found:.1%} of the people were found"
    for title, groups, columns in (
        ("joint", summary.joints, _JOINT_COLUMNS),
        ("size", summary.sizes, _GROUP_COLUMNS),
        ("occlusion", summary.occlusion, _GROUP_COLUMNS),
    ):
        yield ""
        yield from _table(title, groups, columns)
    yield ""
    yield from _reliability(summary)


def cell(figures: Figures, column: str) -> str:
    """Format a figure of a table; a dash if there is none."""
    value = figures.get(column)
    if value is None or value < 0:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def how(run: Run) -> str:
    """Describe a run in words."""
    flip = {None: "", True: ", flip test", False: ", no flip test"}[run.flip_test]
    return ("ground-truth boxes" if run.boxes_from == "gt" else "boxes of the detector") + flip


def _table(title: str, groups: Mapping[str, Figures], columns: Sequence[str]) -> Iterator[str]:
    yield f"{title:<20}" + "".join(f"{column:>9}" for column in columns)
    for name, figures in groups.items():
        yield f"{name:<20}" + "".join(f"{cell(figures, column):>9}" for column in columns)


def _reliability(summary: Summary) -> Iterator[str]:
    raw = summary.reliability
    yield f"a score is the chance that the joint is right, but for {raw.ece:.3f} (ECE); Brier {raw.brier:.3f}"
    yield from _bins(raw, "joints")
    if summary.calibrated:
        curve, after = summary.calibrated
        yield f"with the curve sigmoid({curve.scale:.3f} logit(score) {curve.shift:+.3f}): ECE {after.ece:.3f}; Brier {after.brier:.3f}"
    if summary.boxes:
        boxes = summary.boxes
        yield ""
        yield f"a detector's score is the chance that the box is right (IoU 0.5), but for {boxes.ece:.3f} (ECE); Brier {boxes.brier:.3f}"
        yield from _bins(boxes, "boxes")


def _bins(reliability: Reliability, what: str) -> Iterator[str]:
    yield f"{'score':<20}{what:>9}{'score':>9}{'right':>9}"
    for b in reliability.bins:
        span = f"{b.low:.1f} to {b.high:.1f}"
        yield f"{span:<20}{b.count:>9}{b.score:>9.3f}{b.right:>9.3f}"
