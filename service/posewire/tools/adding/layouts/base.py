"""The input and the results of a recogniser of layouts, and the registry of recognisers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from posewire.registry.specs import Task
from posewire.tools.adding.graph import Arrays, Graph
from posewire.tools.adding.hints import ULTRALYTICS, Hints

STRIDES: Final = (8, 16, 32)  # of the detectors' grids
_COCO_CLASSES: Final = 80
_PERSON: Final = "person"


@dataclass(frozen=True, slots=True)
class Told:
    """A parameter that is known without its owner, who may still say another value."""

    value: Any
    how: str  # it is known


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout that outputs may have, and its parameters as the manifest has them."""

    task: Task
    name: str
    how: str  # it is known
    parameters: Mapping[str, Any] = field(default_factory=dict)  # that the shapes tell
    told: Mapping[str, Told] = field(default_factory=dict)  # further ones, which are shown with their source
    asked: Mapping[str, str] = field(default_factory=dict)  # and those that only the owner knows, with the reason; as an option each
    sign: str = ""  # what its owner can tell it by, if other layouts have the same outputs
    keypoints: int | None = None  # K; None: of a detector
    classes: int | None = None  # of a detector; None: it does not say


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """The outputs of a file for an image."""

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


# Returns the layouts that the outputs of a file may have: none, one, or several. Raises ModelError if they contradict the hints.
Recogniser: TypeAlias = Callable[[Probe], list[Layout]]

_RECOGNISERS: list[Recogniser] = []


def register_recogniser(recognise: Recogniser) -> Recogniser:
    """Let `models add` ask a recogniser, too; a decorator."""
    _RECOGNISERS.append(recognise)
    return recognise


def possible_layouts(probe: Probe) -> list[Layout]:
    """Return every layout that the outputs may have.

    Raises:
        ModelError: the outputs contradict what is stated beside the file.
    """
    return [layout for recognise in _RECOGNISERS for layout in recognise(probe)]


def person_class(layout: Layout, hints: Hints) -> tuple[int, str] | None:
    """Return the index of the class "person" and how it is known; None: it cannot be told."""
    if hints.class_names is not None and _PERSON in hints.class_names:
        return hints.class_names.index(_PERSON), ULTRALYTICS
    if layout.classes == 1:
        return 0, "there is one class"
    if layout.classes == _COCO_CLASSES:
        return 0, "80 classes are COCO's, whose first is person"
    return None
