"""All formats by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from posewire.errors import BadParameter
from posewire.formats import coco, cvat, labelstudio, openpose, posewire, roboflow, tables, yolo
from posewire.formats.base import Format, FormatName

FORMATS: Final[Mapping[FormatName, Format]] = MappingProxyType(
    {
        form.name: form
        for form in (
            *(posewire.FORMAT, coco.FORMAT, openpose.COCO_18_FORMAT, openpose.MODEL_FORMAT),
            *(tables.CSV_FORMAT, tables.PARQUET_FORMAT, yolo.FORMAT, roboflow.FORMAT, labelstudio.FORMAT, cvat.FORMAT),
        )
    }
)


def format_of(name: str) -> Format:
    """Return the format of a name.

    Raises:
        BadParameter: no format has this name.
    """
    found = next((form for form in FORMATS.values() if form.name == name), None)
    if found is None:
        raise BadParameter(f"format: {name!r} is none of {', '.join(FORMATS)}")
    return found
