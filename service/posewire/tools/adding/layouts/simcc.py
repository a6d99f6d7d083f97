"""The recogniser of `simcc`."""

from posewire.errors import ModelError
from posewire.tools.adding.layouts.base import Layout, Probe, register_recogniser


@register_recogniser
def simcc(probe: Probe) -> list[Layout]:
    """Return `simcc` for two outputs (K, ratio * width) and (K, ratio * height), with a ratio of 1 or more.

    Raises:
        ModelError: another ratio is stated beside the file.
    """
    shapes = probe.shapes()
    if len(shapes) != 2 or any(len(shape) != 2 for shape in shapes.values()):
        return []
    found = []
    for x, y in (tuple(shapes), tuple(shapes)[::-1]):
        (keypoints, columns), (others, rows) = shapes[x], shapes[y]
        if keypoints == others and columns * probe.height == rows * probe.width and columns >= probe.width:
            found.append((x, y, keypoints, columns / probe.width))
    named = [one for one in found if one[0].endswith("x") and one[1].endswith("y")]
    layouts = []
    for x, y, keypoints, ratio in named or found:
        if probe.hints.split_ratio not in (None, ratio):
            raise ModelError(f"{probe.hints.source} says a split ratio of {probe.hints.split_ratio:g}, the outputs have {ratio:g}")
        how = f"outputs {x}, {y}: (K, {ratio:g} width), (K, {ratio:g} height)"
        layouts.append(Layout("pose", "simcc", how, {"outputs": (x, y), "split_ratio": ratio}, keypoints=keypoints))
    return layouts
