"""From a file, what others say of it and what the user says, to the entry of a manifest; or to a list of what must be asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from posewire.errors import ModelError
from posewire.registry.keypoint_sets import KEYPOINT_SETS, KeypointSet, load_keypoint_set
from posewire.registry.specs import Task
from posewire.tools.adding.graph import Graph, Normalisation
from posewire.tools.adding.hints import Hints
from posewire.tools.adding.layouts.base import Layout, Probe, person_class, possible_layouts
from posewire.types import UInt8Array

_SAID: Final = "as you say"
_IMAGENET_RED: Final = 100.0  # ImageNet's mean of red is 123.675, of blue 103.53


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options of the user; None: not given."""

    layout: str | None = None
    keypoints: str | None = None  # name of a set, or path of its file
    height: int | None = None  # pixels
    width: int | None = None
    colour: Literal["RGB", "BGR"] | None = None
    mean: tuple[float, float, float] | None = None  # of channels 0..255
    std: tuple[float, float, float] | None = None
    sigma: float | None = None
    flip_shift: int | None = None
    outputs: tuple[str, ...] | None = None
    person_class: int | None = None
    distances: Literal["pixels", "strides"] | None = None

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a layout that the user gives, by their names in the manifest."""
        names = ("sigma", "flip_shift", "outputs", "person_class", "distances")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is known of a file."""

    what: str
    value: str
    how: str


@dataclass(slots=True)
class Recognised:
    """The known and the missing properties of a file."""

    facts: list[Fact] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # option, and why it is needed
    task: Task | None = None
    input: dict[str, Any] = field(default_factory=dict)  # the tables of the entry
    output: dict[str, Any] = field(default_factory=dict)
    keypoints: KeypointSet | None = None
    keypoints_file: Path | None = None  # of a set of one's own

    def know(self, what: str, value: object, how: str) -> None:
        """Note a fact."""
        self.facts.append(Fact(what, str(value), how))


def recognise(graph: Graph, hints: Hints, given: Given, image: UInt8Array) -> Recognised:
    """Tell what a file is.

    Args:
        graph: of the file.
        hints: of others.
        given: by the user; it wins over everything else.
        image: (H, W, 3) uint8 RGB, to see the values that the file gives.

    Raises:
        ModelError: the file does not run, has a layout that is not known, or contradicts what the user says.
    """
    found = Recognised()
    found.know("file", f"opset {graph.opset}{f', {graph.producer}' if graph.producer else ''}", "the file")
    _sizes(found, graph, hints, given)
    _normalisation(found, graph, hints, given)
    if "height" not in found.input:
        return found
    pixels = _as_input(image, found.input, graph)
    probe = Probe(graph, hints, graph.run(pixels), found.input["height"], found.input["width"])
    layout, *others = _layouts(found, probe, given)
    found.task = layout.task
    _parameters(found, layout, given)
    _ask(found, [layout, *others], given)
    if layout.task == "pose":
        _pose(found, layout, given)
    else:
        _detector(found, layout, hints, given)
    return found


def _sizes(found: Recognised, graph: Graph, hints: Hints, given: Given) -> None:
    for side, of_file, hinted, said in (
        ("height", graph.height, hints.height, given.height),
        ("width", graph.width, hints.width, given.width),
    ):
        if of_file is not None:
            if said not in (None, of_file):
                raise ModelError(f"{graph.name} takes images of {side} {of_file} only; leave out --{side}")
            found.input[side] = of_file
        elif said is not None or hinted is not None:
            found.input[side] = said or hinted
        else:
            found.missing[f"--{side}"] = "pixels of the input; the file leaves it open"
    found.input["format"] = graph.input_format
    if "height" in found.input and "width" in found.input:
        how = "the file" if graph.height and graph.width else _SAID if given.height and given.width else hints.source or _SAID
        found.know("input", f"{found.input['height']}x{found.input['width']}, {graph.input_format}", how)
    else:
        found.input.pop("height", None)


def _normalisation(found: Recognised, graph: Graph, hints: Hints, given: Given) -> None:
    """Find mean, std and the order of the channels."""
    inside = graph.normalisation
    values: dict[str, tuple[Any, str]] = {}
    if inside is not None or graph.input_format != "float32-nchw":
        how = f"the graph normalises: mean {_numbers(inside.mean)}, std {_numbers(inside.std)}" if inside else "the input is uint8"
        values = {"mean": ((0, 0, 0), how), "std": ((1, 1, 1), how)}
        if colour := _colour_of(inside):
            values["colour"] = colour, "the order of the means in the graph"
    for name in ("mean", "std", "colour"):
        hinted = getattr(hints, name)
        if hinted is not None:
            values.setdefault(name, (hinted, hints.source))
        if (said := getattr(given, name)) is not None:
            values[name] = said, _SAID
    if given.std is not None and given.std != (1, 1, 1) and max(given.std) <= 1:
        raise ModelError(f"--std {_numbers(given.std)} is of channels 0..1; mean and std are of channels 0..255: multiply both by 255")
    why = {
        "mean": "of channels 0..255, such as 123.675 116.28 103.53 for RGB of ImageNet; 0 0 0: none is subtracted",
        "std": "of channels 0..255, such as 58.395 57.12 57.375 for RGB of ImageNet; 1 1 1: nothing is divided",
        "colour": "RGB or BGR: the order of the channels, in which mean and std are too",
    }
    for name, reason in why.items():
        if name in values:
            value, how = values[name]
            found.input[name] = value
            found.know(name, value if isinstance(value, str) else _numbers(value), how)
        else:
            found.missing[f"--{name}"] = reason


def _colour_of(inside: Normalisation | None) -> Literal["RGB", "BGR"] | None:
    """Return the order of channels by ImageNet's means, of which red is the largest."""
    if inside is None or min(inside.mean) < _IMAGENET_RED or inside.mean[0] == inside.mean[2]:
        return None
    return "RGB" if inside.mean[0] > inside.mean[2] else "BGR"


def _as_input(image: UInt8Array, described: Mapping[str, Any], graph: Graph) -> Any:
    """Return an image, of any aspect, as an input of the file; the values are right as far as they are known."""
    rows = np.linspace(0, image.shape[0] - 1, described["height"]).astype(int)
    cols = np.linspace(0, image.shape[1] - 1, described["width"]).astype(int)
    pixels = image[rows][:, cols]
    if described.get("colour") == "BGR":
        pixels = pixels[..., ::-1]
    if graph.input_format == "uint8-nhwc":
        return np.ascontiguousarray(pixels[None])
    planes = pixels.transpose(2, 0, 1)[None]
    if graph.input_format == "uint8-nchw":
        return np.ascontiguousarray(planes)
    mean = np.array(described.get("mean", (0, 0, 0)), np.float32)[:, None, None]
    std = np.array(described.get("std", (255, 255, 255)), np.float32)[:, None, None]
    return np.ascontiguousarray((planes - mean) / std, np.float32)


def _layouts(found: Recognised, probe: Probe, given: Given) -> list[Layout]:
    """Return the layouts that the file may have, of each name one; of several, the user is asked which."""
    shapes = ", ".join(f"{name} {shape}" for name, shape in probe.shapes().items())
    if probe.hints.task not in (None, "detect"):
        raise ModelError(
            f"{probe.graph.name} is of Ultralytics' task {probe.hints.task!r}; Posewire takes detectors, and top-down pose models, "
            "which see one person at a time"
        )
    possible = possible_layouts(probe)
    if not possible:
        raise ModelError(
            f"{probe.graph.name}: for an input of {probe.height}x{probe.width} its outputs are {shapes}, which is no layout that is known; "
            f"docs/how-to/own-model.md has all of them, and CONTRIBUTING.md how to add one"
        )
    chosen = [layout for layout in possible if given.layout in (None, layout.name)]
    if not chosen:
        can_be = " or ".join(dict.fromkeys(layout.name for layout in possible))
        raise ModelError(f"{probe.graph.name}: outputs {shapes} are not {given.layout}; they can be {can_be}")
    if given.outputs is not None:
        chosen = [layout for layout in chosen if set(layout.parameters.get("outputs", given.outputs)) == set(given.outputs)]
        if not chosen:
            raise ModelError(f"--outputs {' '.join(given.outputs)}: the outputs are {shapes}")
        chosen = chosen[:1]
    unique = list({one.name: one for one in reversed(chosen)}.values())[::-1]
    layout = unique[0]
    if len(unique) > 1:
        names = [f"{one.name} ({one.sign})" if one.sign else one.name for one in unique]
        found.missing["--layout"] = f"{', '.join(names[:-1])} or {names[-1]}: all have such outputs"
    elif len(chosen) > 1:
        found.missing["--outputs"] = "of both outputs, that of x first, then that of y: they have the same shape"
    else:
        found.know("layout", layout.name, layout.how if len(possible) == 1 else f"{layout.how}; {_SAID}")
    found.know("task", layout.task, layout.how)
    return unique


def _parameters(found: Recognised, layout: Layout, given: Given) -> None:
    """Fill the table of the output; note what neither the shapes nor the user alone tell."""
    said = given.parameters()
    told = {name: one.value for name, one in layout.told.items()}
    found.output = {"layout": layout.name, **layout.parameters, **told, **said}
    for name in dict.fromkeys((*layout.told, *layout.asked)):
        if name in found.output:
            found.know(name.replace("_", " "), _shown(found.output[name]), _SAID if name in said else layout.told[name].how)


def _ask(found: Recognised, layouts: Sequence[Layout], given: Given) -> None:
    """Ask for the parameters of every layout that is possible, so that all is asked at once."""
    for name, why in {name: why for layout in layouts for name, why in layout.asked.items()}.items():
        if name not in given.parameters():
            of = [layout.name for layout in layouts if name in layout.asked]
            only = "" if len(of) == len(layouts) else f"for {' and '.join(of)}: "
            found.missing[f"--{name.replace('_', '-')}"] = f"{only}{why}"


def _pose(found: Recognised, layout: Layout, given: Given) -> None:
    assert layout.keypoints is not None
    if given.keypoints is not None:
        found.keypoints, how = _set_of_user(found, given.keypoints), _SAID
    else:
        fitting = [known for known in KEYPOINT_SETS.values() if len(known.names) == layout.keypoints]
        found.keypoints, how = (fitting[0] if len(fitting) == 1 else None), f"the only set of Posewire with {layout.keypoints}"
    if found.keypoints is None:
        found.missing["--keypoints"] = (
            f"a file of the keypoint set: Posewire has none of {layout.keypoints} keypoints (docs/keypoint-sets.md says how to write one)"
        )
        return
    if len(found.keypoints.names) != layout.keypoints:
        raise ModelError(f"{found.keypoints.name} has {len(found.keypoints.names)} keypoints, the file gives {layout.keypoints}")
    found.know("keypoints", f"{layout.keypoints}, {found.keypoints.name}", how)


def _set_of_user(found: Recognised, keypoints: str) -> KeypointSet:
    if keypoints in KEYPOINT_SETS:
        return KEYPOINT_SETS[keypoints]
    if not keypoints.endswith(".toml"):
        raise ModelError(f"--keypoints {keypoints}: not a keypoint set; known: {', '.join(KEYPOINT_SETS)}, or the path of a .toml file")
    found.keypoints_file = Path(keypoints)
    return load_keypoint_set(found.keypoints_file)


def _detector(found: Recognised, layout: Layout, hints: Hints, given: Given) -> None:
    known = (given.person_class, _SAID) if given.person_class is not None else person_class(layout, hints)
    if known is None:
        found.missing["--person-class"] = "the number of the class of people, from 0"
    else:
        found.output["person_class"], how = known
        found.know("person class", found.output["person_class"], how)
    if layout.classes is not None and found.output.get("person_class", 0) >= layout.classes:
        raise ModelError(f"--person-class {found.output['person_class']}: the file gives {layout.classes} classes, numbered from 0")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
