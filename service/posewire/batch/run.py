"""The identity of a batch run: its models and parameters, which all results in one place share."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from posewire import __version__
from posewire.batch.tables import Form
from posewire.config import Settings
from posewire.errors import PosewireError
from posewire.registry.choice import Choice

_LAYOUT: Final = 1  # of the results; another number is for another way to write them


@dataclass(frozen=True, slots=True)
class Run:
    """The models and the parameters of a run. Results of runs that differ in one of them are never mixed."""

    layout: int
    version: str  # of Posewire
    detector: str
    detector_sha256: str
    pose: str
    pose_sha256: str
    keypoints: tuple[str, ...]  # names
    min_detection_score: float
    max_people: int
    decoding: str
    flip_test: bool
    max_bytes: int
    max_pixels: int
    form: Form
    column: str | None
    fps: float | None

    @classmethod
    def of(cls, settings: Settings, choice: Choice, form: Form, column: str | None, fps: float | None) -> Self:
        """Return the run that settings and options describe."""
        return cls(
            layout=_LAYOUT,
            version=__version__,
            detector=choice.detector.name,
            detector_sha256=choice.detector.sha256,
            pose=choice.pose.name,
            pose_sha256=choice.pose.sha256,
            keypoints=choice.pose.keypoints.names,
            min_detection_score=settings.min_detection_score,
            max_people=settings.max_people,
            decoding=settings.decoding.value,
            flip_test=settings.flip_test,
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            form=form,
            column=column,
            fps=fps,
        )

    @property
    def about(self) -> str:
        """JSON with the models and the names of the keypoints, for the metadata of a Parquet file."""
        return json.dumps({"version": self.version, "detector": self.detector, "pose": self.pose, "keypoints": self.keypoints})

    def document(self, sources: Sequence[str]) -> dict[str, Any]:
        """Return what `run.json` has: the parameters, and how the run was begun."""
        return {"run": asdict(self), "sources": list(sources), "begun": datetime.now(UTC).isoformat(timespec="seconds")}

    def check(self, document: Mapping[str, Any], place: str) -> None:
        """Raise an error if results that are there already are of a run with other parameters.

        Raises:
            PosewireError: they are; the message says which parameters differ.
        """
        there, here = document.get("run"), json.loads(json.dumps(asdict(self)))
        if not isinstance(there, dict):
            raise PosewireError(f"{place} holds no run of `posewire batch`; give another name to --out")
        names = [name for name in _names(there, here) if there.get(name) != here.get(name)]
        different = [f"{name} was {there.get(name)!r} and is {here.get(name)!r}" for name in names]
        if different:
            raise PosewireError(
                f"{place} holds a run with other parameters: {'; '.join(different)}. Repeat them, or give another name to --out"
            )


def _names(*documents: Mapping[str, Any]) -> Iterable[str]:
    return dict.fromkeys(name for document in documents for name in document)
