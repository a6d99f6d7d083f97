"""A summary as one HTML page, without scripts and other files."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Final

from posewire.errors import PosewireError
from posewire.tools.evaluate.summary import Run, Summary
from posewire.tools.evaluate.text import cell, how
from posewire.tools.evaluate.worst import Shown

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
    """Return the page.

    Args:
        summary: of the run in detail.
        runs: of all ways to run.
        shown: images, the worst first.
        title: plain text.

    Raises:
        PosewireError: jinja2 is not installed.
    """
    figures = {
        "keypoints": {how(run): run.keypoints for run in runs},
        "people's boxes": {how(run): run.boxes for run in runs if run.boxes},
    }
    return str(
        template("page.html").render(
            summary=summary, runs=figures.items(), shown=shown, title=title, joints=_JOINTS, groups=_GROUPS, cell=cell, how=how
        )
    )


def template(name: str) -> Any:
    """Return a template of the folder `templates`, by jinja2; values are escaped, and missing ones are errors.

    Raises:
        PosewireError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise PosewireError("the page needs jinja2: pip install 'posewire[evaluate]'") from None
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("posewire.tools.evaluate"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    templates.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return templates.get_template(name)
