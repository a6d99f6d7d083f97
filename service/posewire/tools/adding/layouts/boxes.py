"""The recognisers of detectors' rows: `boxes_scores` and `end2end`, `yolov8` and `yolox`."""

from typing import Final

from posewire.tools.adding.layouts.base import STRIDES, Layout, Probe, Told, register_recogniser

_BOX: Final = 4


@register_recogniser
def people(probe: Probe) -> list[Layout]:
    """Return `end2end` for rows after suppression, or `boxes_scores` for those of Posewire's own detectors."""
    floats = probe.floats()
    labels = [name for name in probe.shapes() if name not in floats]
    if len(floats) != 1:
        return []
    [(name, shape)] = floats.items()
    if len(shape) != 2 or shape[1] not in (5, 6):
        return []
    rows, columns = shape
    if columns == 6:
        return [] if rows == probe.cells else [Layout("detector", "end2end", f"output {name}: rows of 6 numbers")]
    if labels:
        how = f"outputs {name}, {labels[0]}: rows of 5 numbers and their classes"
        return [Layout("detector", "end2end", how, {"outputs": (name, labels[0])})]
    if rows == probe.cells and isinstance(probe.graph.output_shapes[name][0], int):
        return [Layout("detector", "boxes_scores", f"output {name}: 5 numbers for each of {rows} cells", classes=1)]
    return [Layout("detector", "end2end", f"output {name}: rows of 5 numbers", classes=1)]


@register_recogniser
def grids(probe: Probe) -> list[Layout]:
    """Return `yolov8` for columns, or `yolox` for rows, before suppression: one for each cell."""
    floats = probe.floats()
    if len(floats) != 1:
        return []
    [(name, shape)] = floats.items()
    match shape:
        case (channels, cells) if cells == probe.cells and channels > _BOX:
            how = f"output {name}: (4 + classes) for each of {cells} cells"
            return [Layout("detector", "yolov8", how, classes=channels - _BOX)]
        case (cells, channels) if cells == probe.cells and channels > _BOX + 1:
            how = f"output {name}: (5 + classes) for each of {cells} cells"
            return [Layout("detector", "yolox", how, told={"strides": Told(STRIDES, "the number of cells")}, classes=channels - _BOX - 1)]
    return []
