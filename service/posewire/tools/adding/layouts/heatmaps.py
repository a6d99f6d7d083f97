"""The recogniser of `heatmaps` and `heatmaps-udp`, whose outputs have the same shape."""

from typing import Final

from posewire.tools.adding.layouts.base import Layout, Probe, Told, register_recogniser

_SIGMA: Final = "heatmap pixels, of the Gaussians of the training: mostly 2 for 256x192 and 3 for 384x288"


@register_recogniser
def heatmaps(probe: Probe) -> list[Layout]:
    """Return both for one output (K, h, w) whose sides are the input's by the same whole number; one of them if the training is stated."""
    shapes = probe.shapes()
    if len(shapes) != 1:
        return []
    [(name, shape)] = shapes.items()
    if len(shape) != 3 or 0 in shape:
        return []
    keypoints, rows, cols = shape
    stride = probe.height // rows
    if stride < 2 or (rows * stride, cols * stride) != (probe.height, probe.width):
        return []
    how = f"output {name}: (K, height / {stride}, width / {stride})"
    sigma = {} if probe.hints.sigma is None else {"sigma": Told(probe.hints.sigma, probe.hints.source)}
    asked = {} if sigma else {"sigma": _SIGMA}
    plain = Layout(
        "pose", "heatmaps", how, {"stride": stride}, sigma | {"flip_shift": Told(1, "MMPose's; only the flip test reads it")}, asked,
        "trained without UDP", keypoints,
    )  # fmt: skip
    unbiased = Layout("pose", "heatmaps-udp", how, {"stride": stride}, sigma, asked, "trained with UDP, as ViTPose", keypoints)
    return [layout for layout, udp in ((plain, False), (unbiased, True)) if probe.hints.udp in (None, udp)]
