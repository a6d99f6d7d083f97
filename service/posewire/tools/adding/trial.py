"""A model that is not installed yet, run on an image and drawn, to look at."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from posewire.config import Decoding, Settings
from posewire.files import read_plain
from posewire.formats.result import NamedPoseResult
from posewire.imaging.draw import draw_poses, encode
from posewire.pipeline.loading import plan_device
from posewire.pipeline.look import look_of
from posewire.pipeline.pose_pipeline import PosePipeline, load_pipeline
from posewire.registry.installed import install_own
from posewire.types import SEEN_SCORE, Frame
from posewire.words import counted

# A portrait of Eileen Collins, NASA: public domain.
SAMPLE: Final = Path(__file__).parent / "astronaut.jpg"

# A set with one of these is of whole people, whom the detector finds; others, such as hands, are looked for in the whole image.
_OF_PEOPLE: Final = {"nose", "left_shoulder", "left_hip"}


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The result of a model for an image."""

    result: NamedPoseResult
    drawn: bytes  # JPEG

    @property
    def summary(self) -> str:
        """One line about the people."""
        people = self.result.people
        shown = [int((person.keypoints.scores >= SEEN_SCORE).sum()) for person in people]
        if not people:
            return "nobody was found"
        count = f"{counted(len(people), 'person', 'people')} found"
        of = len(self.result.keypoint_set.names)
        return f"{count}; the best scores {people[0].score:.2f}, and {shown[0]} of its {of} keypoints {SEEN_SCORE} or more"


def try_model(entry: Mapping[str, object], weights: bytes, keypoints: bytes | None, image: Path, settings: Settings) -> Trial:
    """Run a model on an image, in a store of its own that is gone afterwards.

    Args:
        entry: as of `install_own`.
        weights: the ONNX file.
        keypoints: as of `install_own`.
        image: an image file.
        settings: of the other model and of the limits.

    Raises:
        PosewireError: the entry is not valid, the image cannot be read, or the model does not run or gives something else than its
            layout says.
    """
    with tempfile.TemporaryDirectory(prefix="posewire-add-") as folder:
        root = Path(folder)
        install_own(root, entry, weights, "", keypoints)
        defaults = {"models": None, "detector": None, "pose": None, "flip_test": False, "decoding": Decoding.DARK}
        tried = {"cache_dir": root, "model_store": root, str(entry["task"]): entry["name"]}
        chosen = settings.model_copy(update=defaults | tried)
        pipeline = load_pipeline(chosen, plan_device(chosen))
        frame = pipeline.frame(read_plain(image, settings.max_bytes))
        result = _run(pipeline, frame, entry)
    look = look_of(pipeline.pose.spec.keypoints)
    return Trial(result, encode(draw_poses(frame.pixels, result.people, look, min_keypoint_score=SEEN_SCORE), "image/jpeg"))


def _run(pipeline: PosePipeline, frame: Frame, entry: Mapping[str, object]) -> NamedPoseResult:
    if entry["task"] == "pose" and not _OF_PEOPLE & set(pipeline.pose.spec.keypoints.names):
        return pipeline(frame.pixels, boxes=[[0, 0, frame.width, frame.height]])
    return pipeline(frame.pixels)
