"""Properties of a file from its own metadata, and from the `pipeline.json` that mmdeploy writes beside its exports."""

import ast
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from posewire.files import UnreadableFile, read_plain
from posewire.tools.adding.graph import Graph

PIPELINE: Final = "pipeline.json"
ULTRALYTICS: Final = "the file's metadata, by Ultralytics"
_MAX_BYTES: Final = 1 << 20
_CHANNELS: Final = 3


@dataclass(frozen=True, slots=True)
class Hints:
    """Facts that are stated beside the graph; None: nothing is stated."""

    source: str = ""  # who states them
    mean: tuple[float, ...] | None = None  # of channels 0..255
    std: tuple[float, ...] | None = None
    colour: Literal["RGB", "BGR"] | None = None
    height: int | None = None
    width: int | None = None
    udp: bool | None = None  # of heatmaps
    sigma: float | None = None
    split_ratio: float | None = None
    class_names: tuple[str, ...] | None = None
    task: str | None = None  # as Ultralytics names it

    @classmethod
    def of(cls, path: Path, graph: Graph) -> Self:
        """Return what the metadata of a file says, else what the `pipeline.json` beside it says."""
        if "ultralytics" in graph.metadata.get("author", "").lower():
            return cls._of_ultralytics(graph)
        try:
            content = json.loads(read_plain(path.parent / PIPELINE, _MAX_BYTES))
        except (UnreadableFile, ValueError, RecursionError):
            return cls()
        return cls._of_mmdeploy(content)

    @classmethod
    def _of_ultralytics(cls, graph: Graph) -> Self:
        names, size = _literal(graph.metadata.get("names", "")), _literal(graph.metadata.get("imgsz", ""))
        classes = tuple(map(str, names.values())) if isinstance(names, dict) and list(names) == list(range(len(names))) else None
        height, width = size if isinstance(size, list) and [type(side) for side in size] == [int, int] else (None, None)
        return cls(ULTRALYTICS, (0, 0, 0), (255, 255, 255), "RGB", height, width, class_names=classes, task=graph.metadata.get("task"))

    @classmethod
    def _of_mmdeploy(cls, content: object) -> Self:
        tables = list(_tables(content))
        normalize = next((one for one in tables if one.get("type") == "Normalize"), {})
        affine = next((one for one in tables if one.get("type") in ("TopDownAffine", "TopdownAffine")), {})
        codec = next((one for one in tables if one.get("type") in ("MSRAHeatmap", "UDPHeatmap")), {})
        simcc = next((one for one in tables if "simcc_split_ratio" in one), {})
        size = affine.get("image_size")
        width, height = size if isinstance(size, list) and [type(side) for side in size] == [int, int] else (None, None)
        to_rgb = normalize.get("to_rgb")
        return cls(
            f"{PIPELINE} beside the file",
            _numbers(normalize.get("mean")),
            _numbers(normalize.get("std")),
            None if not isinstance(to_rgb, bool) else "RGB" if to_rgb else "BGR",
            height,
            width,
            udp=codec["type"] == "UDPHeatmap" if codec else None,
            sigma=_number(codec.get("sigma")),
            split_ratio=_number(simcc.get("simcc_split_ratio")),
        )


def _literal(text: str) -> object:
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.literal_eval(text)
    return None


def _tables(value: object) -> Iterator[dict[str, Any]]:
    """Yield every JSON object in a JSON value, the outer before the inner."""
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _tables(one)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _numbers(value: object) -> tuple[float, ...] | None:
    numbers = [_number(one) for one in value] if isinstance(value, list) else []
    found = tuple(number for number in numbers if number is not None)
    return found if len(found) == len(numbers) == _CHANNELS else None
