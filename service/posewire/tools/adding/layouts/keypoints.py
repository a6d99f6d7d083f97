"""The recogniser of `keypoints`."""

from posewire.tools.adding.layouts.base import Layout, Probe, register_recogniser


@register_recogniser
def keypoints(probe: Probe) -> list[Layout]:
    """Return `keypoints` for an output (K, 3), or for two, (K, 2) and (K) or (K, 1)."""
    shapes = probe.shapes()
    match list(shapes.items()):
        case [(name, (count, 3))]:
            return [Layout("pose", "keypoints", f"output {name}: (K, 3)", keypoints=count)]
        case [(xy, (count, 2)), (scores, ((others,) | (others, 1)))] | [(scores, ((others,) | (others, 1))), (xy, (count, 2))] if (
            count == others
        ):
            return [Layout("pose", "keypoints", f"outputs {xy}, {scores}: (K, 2), (K)", {"outputs": (xy, scores)}, keypoints=count)]
    return []
