"""A pipeline over the frames of one video: the synchronous sibling of the engine's `PoseSession`."""

from collections.abc import Sequence
from typing import Protocol

from posewire.formats.result import NamedPoseResult
from posewire.imaging.pixels import Colour
from posewire.pipeline.images import ImageSource
from posewire.pipeline.tracking.video import DETECT_EVERY, VideoTracker
from posewire.types import Detections, Frame, PoseOptions, PoseResult, Timings


class FramePipeline(Protocol):
    """The part of `PosePipeline` that runs the models for a tracker."""

    def frame(self, image: ImageSource, colour: Colour) -> Frame:
        """Return an image as upright RGB pixels."""

    def detect_people(self, frame: Frame, options: PoseOptions) -> tuple[Detections, Timings]:
        """Return the detector's people."""

    def estimate_frame(self, frame: Frame, options: PoseOptions) -> PoseResult:
        """Return the people of a frame with their keypoints."""

    def named(self, result: PoseResult) -> NamedPoseResult:
        """Return a result with the keypoint set of the pose model."""


class PoseTracker:
    """The people of one video: call it with one frame after the other. Only one thread may use it at a time.

    Args:
        pipeline: runs the models.
        oks_sigmas: of its keypoint set.
        options: for every frame.
        fps: frames a second of the video, for frames that are given without their time.
        smooth: take the jitter out of the keypoints.
        detect_every: the most frames from one run of the detector to the next; 1: it runs on every frame.
    """

    def __init__(
        self,
        pipeline: FramePipeline,
        oks_sigmas: Sequence[float],
        options: PoseOptions,
        *,
        fps: float = 30.0,
        smooth: bool = True,
        detect_every: int = DETECT_EVERY,
    ) -> None:
        self._pipeline = pipeline
        self._video = VideoTracker(oks_sigmas, options, smooth=smooth, detect_every=detect_every)
        self._frame_s = 1 / fps
        self._next_s = 0.0

    def __call__(self, image: ImageSource, t_seconds: float | None = None, *, colour: Colour = "RGB") -> NamedPoseResult:
        """Return everyone in the next frame, best first; a person has the same `track_id` in every frame.

        A frame that raises has not happened: the next one may follow.

        Args:
            image: as in a call of `PosePipeline`. Where its size is not that of the frame before, the identities start anew.
            t_seconds: when the frame was taken, on any clock, later than the frame before; None: at `fps` after it.
            colour: the order of an array's channels.

        Raises:
            Exception: as a call of `PosePipeline`.
        """
        t_seconds = self._next_s if t_seconds is None else t_seconds
        frame = self._pipeline.frame(image, colour)
        begun = self._video.start(frame, t_seconds)
        found, detecting = None, Timings()
        if begun.detect_options is not None:
            found, detecting = self._pipeline.detect_people(frame, begun.detect_options)
        chosen = self._video.choose(begun, found)
        result = self._video.finish(chosen, self._pipeline.estimate_frame(frame, chosen.options), detecting)
        self._next_s = t_seconds + self._frame_s
        return self._pipeline.named(result)
