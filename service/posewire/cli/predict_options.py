"""The options of `posewire predict`."""

from dataclasses import dataclass
from pathlib import Path

from posewire.engine.engine import Engine
from posewire.engine.video_session import PoseSession
from posewire.errors import PosewireError
from posewire.formats.base import Format
from posewire.formats.registry import FORMATS
from posewire.types import Priority


@dataclass(frozen=True, slots=True)
class Tracking:
    """The options of tracking in a video, as in `PoseSession`."""

    track: bool
    smooth: bool
    detect_every: int

    def session(self, engine: Engine, priority: Priority) -> PoseSession:
        """Return a session for a video, with the options of the settings for its frames."""
        options = engine.settings.pose_options()
        return PoseSession(engine, options, track=self.track, smooth=self.smooth, detect_every=self.detect_every, priority=priority)


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """The options of the command line."""

    form: Format | None  # of the results; None: lines to read
    normalized: bool
    out: Path | None
    min_keypoint_score: float | None
    tracking: Tracking  # of videos

    @property
    def own_lines(self) -> bool:
        """Return True if the results are Posewire's JSON Lines, on standard output."""
        return self.form is not None and self.form.name == "posewire"

    @property
    def readable(self) -> bool:
        """Return True if standard output has lines to read, because the results go nowhere else or to files."""
        form = self.form
        return form is None or self.results_file is not None or (form.one_image and self.out is not None and not self.own_lines)

    @property
    def results_file(self) -> Path | None:
        """Return the file that `--out` names for the results; None: it names none, or a folder.

        Raises:
            PosewireError: the name is that of a file of another format.
        """
        out, form = self.out, self.form
        if out is None or form is None or form.one_image or out.is_dir():
            return None
        if out.suffix == form.suffix:
            return out
        if out.suffix in {other.suffix for other in FORMATS.values()}:
            raise PosewireError(f"{out}: files of --format {form.name} are *{form.suffix}; give such a name, or that of a folder, to --out")
        return None

    @property
    def drawings(self) -> Path | None:
        """Return the folder for images and videos with skeletons; None: nothing is drawn."""
        per_image = self.form is not None and self.form.one_image and not self.own_lines
        return None if per_image or self.results_file is not None else self.out


def chosen_format(name: str | None, *, as_json: bool) -> Format | None:
    """Return the format that `--format` and `--json` choose; None: neither is given.

    Raises:
        PosewireError: they contradict each other.
    """
    form = next((form for form in FORMATS.values() if form.name == (name or ("posewire" if as_json else None))), None)
    if as_json and form is not None and form.media_type != "application/json":
        raise PosewireError(f"--json and --format {form.name} contradict each other; leave --json out")
    return form
