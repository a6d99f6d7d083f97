"""The layouts of outputs, told apart by the names, the shapes and the values of a file's outputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from posewire.registry.specs import Task
from posewire.tools.adding.graph import Arrays, Graph
from posewire.tools.adding.hints import ULTRALYTICS, Hints

STRIDES: Final = (8, 16, 32)  # of the detectors' grids
_COCO_CLASSES: Final = 80
_BOX: Final = 4
_PERSON: Final = "person"


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout that outputs may have, and its parameters as the manifest has them."""

    task: Task
    name: str
    how: str  # it is known
    parameters: Mapping[str, Any] = field(default_factory=dict)
    keypoints: int | None = None  # K; None: of a detector
    classes: int | None = None  # of a detector; None: it does not say


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What a file gives for an image."""

    graph: Graph
    hints: Hints
    outputs: Arrays
    height: int  # of the input, pixels
    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each output, without the batch."""
        return {name: values.shape[1:] for name, values in self.outputs.items()}

    def floats(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the outputs of floats."""
        return {name: values.shape[1:] for name, values in self.outputs.items() if values.dtype.kind == "f"}

    @property
    def cells(self) -> int:
        """The number of cells of a detector's three grids."""
        return sum((self.height // stride) * (self.width // stride) for stride in STRIDES)


def possible_layouts(probe: Probe) -> list[Layout]:
    """Return every layout that the outputs may have; heatmaps may be of two."""
    return [layout for recognise in _RECOGNISERS for layout in recognise(probe)]


def _simcc(probe: Probe) -> list[Layout]:
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
        how = f"outputs {x}, {y}: (K, {ratio:g} width), (K, {ratio:g} height)"
        layouts.append(Layout("pose", "simcc", how, {"outputs": (x, y), "split_ratio": ratio}, keypoints))
    return layouts


def _heatmaps(probe: Probe) -> list[Layout]:
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
    names = ("heatmaps", "heatmaps-udp") if probe.hints.udp is None else ("heatmaps-udp",) if probe.hints.udp else ("heatmaps",)
    return [Layout("pose", name, how, {"stride": stride}, keypoints) for name in names]


def _keypoints(probe: Probe) -> list[Layout]:
    shapes = probe.shapes()
    match list(shapes.items()):
        case [(name, (keypoints, 3))]:
            return [Layout("pose", "keypoints", f"output {name}: (K, 3)", {}, keypoints)]
        case [(xy, (keypoints, 2)), (scores, (others, *rest))] | [(scores, (others, *rest)), (xy, (keypoints, 2))] if (
            keypoints == others and rest in ([], [1])
        ):
            return [Layout("pose", "keypoints", f"outputs {xy}, {scores}: (K, 2), (K)", {"outputs": (xy, scores)}, keypoints)]
    return []


def _people(probe: Probe) -> list[Layout]:
    """Rows of a detector after suppression, or of Posewire's own detectors."""
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


def _grids(probe: Probe) -> list[Layout]:
    """Rows or columns of a detector before suppression, one for each cell."""
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
            return [Layout("detector", "yolox", how, {"strides": STRIDES}, classes=channels - _BOX - 1)]
    return []


def _rtmdet(probe: Probe) -> list[Layout]:
    shapes = probe.floats()
    if len(shapes) not in (len(STRIDES), 2 * len(STRIDES)) or any(len(shape) != 3 for shape in shapes.values()):
        return []
    for order in ("first", "last"):
        maps = {name: _as_map(shape, order) for name, shape in shapes.items()}
        by_stride = {
            stride: [
                (name, channels) for name, (channels, *size) in maps.items() if size == [probe.height // stride, probe.width // stride]
            ]
            for stride in STRIDES
        }
        count = len(shapes) // len(STRIDES)
        if any(len(level) != count for level in by_stride.values()):
            continue
        levels = [sorted(by_stride[stride], key=lambda one: one[1] == _BOX) for stride in STRIDES]  # scores, then distances
        channels = [tuple(channels for _, channels in level) for level in levels]
        if len(set(channels)) != 1 or (count == 2 and channels[0][1] != _BOX) or (count == 1 and channels[0][0] <= _BOX):
            continue
        names = tuple(level[part][0] for part in range(count) for level in levels)
        classes = channels[0][0] - (_BOX if count == 1 else 0)
        scores = np.concatenate([_channels(probe.outputs[level[0][0]], order)[:classes].ravel() for level in levels])
        logits = bool(((scores < 0) | (scores > 1)).any())
        parameters = {
            **{"outputs": names, "channels": order, "strides": STRIDES},
            "scores": "logits" if logits else "probabilities",
        }
        how = f"{len(names)} maps for strides {STRIDES}; scores {'outside' if logits else 'within'} 0..1 on the image"
        return [Layout("detector", "rtmdet", how, parameters, classes=classes)]
    return []


def _as_map(shape: tuple[int, ...], order: str) -> tuple[int, ...]:
    return shape if order == "first" else (shape[2], shape[0], shape[1])


def _channels(values: Any, order: str) -> Any:
    return values[0] if order == "first" else values[0].transpose(2, 0, 1)


_RECOGNISERS: Final[tuple[Callable[[Probe], list[Layout]], ...]] = (_simcc, _heatmaps, _keypoints, _people, _grids, _rtmdet)


def person_class(layout: Layout, hints: Hints) -> tuple[int, str] | None:
    """Return the index of the class "person" and how it is known; None: it cannot be told."""
    if hints.class_names is not None and _PERSON in hints.class_names:
        return hints.class_names.index(_PERSON), ULTRALYTICS
    if layout.classes == 1:
        return 0, "there is one class"
    if layout.classes == _COCO_CLASSES:
        return 0, "80 classes are COCO's, whose first is person"
    return None
