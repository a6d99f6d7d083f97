"""One video: which boxes the pose model sees in each frame, identities, and smooth keypoints. Nothing here runs a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from posewire.pipeline.tracking.one_euro import KeypointSmoother, size_of
from posewire.pipeline.tracking.track import Track
from posewire.pipeline.tracking.tracker import Candidates, Tracker, TrackPolicy, person_of
from posewire.types import Detections, Frame, Pose, PoseOptions, PoseResult, Timings

DETECT_EVERY = 5  # frames


@dataclass(frozen=True, slots=True)
class FrameStep:
    """A frame whose models have not run yet."""

    t_seconds: float
    size: tuple[int, int]  # width and height, pixels
    detect_options: PoseOptions | None  # for the detector; None: it need not run


@dataclass(frozen=True, slots=True, eq=False)
class KeypointStep:
    """A frame whose boxes are chosen; the pose model has not run yet."""

    frame: FrameStep
    candidates: Candidates
    options: PoseOptions  # for the pose model: with boxes
    detected: bool  # the detector ran


class VideoTracker:
    """The state of one video. A caller steps it through the frames, and runs the models between the three calls for each frame.

    The state changes with the last call only: a frame whose models fail has not happened.

    Args:
        oks_sigmas: of the keypoint set.
        options: for every frame; `boxes_xywh` is None.
        smooth: take the jitter out of the keypoints.
        detect_every: the most frames from one run of the detector to the next; 1: it runs on every frame.
    """

    def __init__(self, oks_sigmas: Sequence[float], options: PoseOptions, *, smooth: bool = True, detect_every: int = DETECT_EVERY) -> None:
        self._oks_sigmas = oks_sigmas
        self._options = options
        self._smooth = smooth
        self._policy = TrackPolicy(
            min_detection_score=options.min_detection_score,
            max_people=options.max_people,
            detect_every=detect_every,
            soon=min(3, detect_every),
        )
        self._size: tuple[int, int] | None = None  # width and height of the frames, pixels
        self._restart()

    @property
    def tracks(self) -> int:
        """How many people are followed now, the lost among them."""
        return len(self._tracker.tracks)

    def start(self, frame: Frame, t_seconds: float) -> FrameStep:
        """Begin a frame.

        Args:
            frame: upright. Where its size is not that of the frame before, the identities start anew.
            t_seconds: when the frame was taken, on any clock; later than the frame before. Frames may be missing.
        """
        size = (frame.width, frame.height)
        if size != self._size:
            self._restart()
            self._size = size
        # Detections of a low score confirm people who are followed already.
        options = replace(self._options, min_detection_score=self._policy.faint_score)
        return FrameStep(t_seconds, size, options if self._tracker.due(t_seconds) else None)

    def choose(self, step: FrameStep, found: Detections | None) -> KeypointStep:
        """Choose the boxes for the pose model: what the detector found, and the predictions of who it did not find.

        Args:
            step: of `start`.
            found: with the step's `detect_options`; None: the detector did not run.
        """
        candidates = self._tracker.candidates(step.t_seconds, found, step.size)
        options = replace(self._options, boxes_xywh=candidates.boxes_xywh)
        return KeypointStep(step, candidates, options, detected=found is not None)

    def finish(self, step: KeypointStep, result: PoseResult, detecting: Timings) -> PoseResult:
        """Take in what the pose model found, and return everyone with a `track_id`, best first.

        Args:
            step: of `choose`.
            result: with the step's options, one person a box.
            detecting: where the detector's time went; it is added to the result's.
        """
        t_seconds, size = step.frame.t_seconds, step.frame.size
        tracks = self._tracker.update(t_seconds, result.people, step.candidates, size, detected=step.detected)
        timings = replace(
            result.timings,
            queue=detecting.queue + result.timings.queue,
            detect=detecting.detect,
            total=detecting.total + result.timings.total,
        )
        return replace(result, people=self._people(tracks, t_seconds), timings=timings)

    def _restart(self) -> None:
        self._tracker = Tracker(self._oks_sigmas, self._policy)
        self._smoothers: dict[int, KeypointSmoother] = {}

    def _people(self, tracks: Sequence[Track], t_seconds: float) -> tuple[Pose, ...]:
        people = [person_of(track) for track in tracks]
        if self._smooth:
            people = [
                replace(person, keypoints=self._smoother(track).step(t_seconds, person.keypoints, size_of(person.box_xywh)))
                for track, person in zip(tracks, people, strict=True)
            ]
            followed = {track.track_id for track in self._tracker.tracks}
            self._smoothers = {i: smoother for i, smoother in self._smoothers.items() if i in followed}
        return tuple(sorted(people, key=lambda person: -person.score))

    def _smoother(self, track: Track) -> KeypointSmoother:
        return self._smoothers.setdefault(track.track_id, KeypointSmoother(len(track.pose.keypoints.scores)))
