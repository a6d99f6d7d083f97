"""The frames of one video, one after the other: identities, smoothing, and the detector only where it is needed."""

from dataclasses import replace

from posewire.engine.engine import Engine
from posewire.pipeline.tracking.one_euro import KeypointSmoother, size_of
from posewire.pipeline.tracking.track import Track
from posewire.pipeline.tracking.tracker import Tracker, TrackPolicy, person_of
from posewire.types import Detections, Frame, Pose, PoseOptions, PoseResult, Priority, Timings

DETECT_EVERY = 5


class PoseSession:
    """One video's state; a caller steps it through the frames, one at a time.

    Args:
        engine: started; shared with everyone else.
        options: the caller's choices; `boxes_xywh` is None.
        track: give each person a `track_id`, and run the detector only where it is needed.
        smooth: take the jitter out of the keypoints; only with `track`.
        detect_every: the most frames from one run of the detector to the next; 1: every frame.
        priority: of this video's work in the models' queues.
    """

    def __init__(
        self,
        engine: Engine,
        options: PoseOptions,
        *,
        track: bool = True,
        smooth: bool = True,
        detect_every: int = DETECT_EVERY,
        priority: Priority = Priority.STREAM,
    ) -> None:
        self._engine = engine
        self._options = options
        self._track = track
        self._smooth = smooth
        self._priority = priority
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
        """People who are followed now, the lost among them."""
        return len(self._tracker.tracks)

    def _restart(self) -> None:
        self._tracker = Tracker(self._engine.pose.spec.keypoints.oks_sigmas, self._policy)
        self._smoothers: dict[int, KeypointSmoother] = {}

    async def step(self, frame: Frame, t_seconds: float, *, deadline: float | None = None) -> PoseResult:
        """Everyone in the next frame, with `track_id` where the session tracks; timings without decoding.

        A frame that raises has not happened: the state is as it was, and the next frame may follow.

        Args:
            frame: upright, of the same size as the ones before; another size starts the identities anew.
            t_seconds: when the picture was taken, on any clock; later than the frame before. Frames may be missing.
            deadline: in the event loop's time; None: none.

        Raises:
            DeadlineExceeded, Overloaded, Draining, InferenceFailed: as `Engine.estimate_frame`.
        """
        if not self._track:
            return await self._engine.estimate_frame(frame, self._options, deadline=deadline, priority=self._priority)
        size = (frame.width, frame.height)
        if size != self._size:
            self._restart()
            self._size = size
        found, looked = await self._look(frame, deadline) if self._tracker.due(t_seconds) else (None, Timings())
        candidates = self._tracker.candidates(t_seconds, found, size)
        options = replace(self._options, boxes_xywh=candidates.boxes_xywh)
        result = await self._engine.estimate_frame(frame, options, deadline=deadline, priority=self._priority)
        tracks = self._tracker.update(t_seconds, result.people, candidates, size, detected=found is not None)
        timings = replace(
            result.timings,
            queue=looked.queue + result.timings.queue,
            detect=looked.detect,
            total=looked.total + result.timings.total,
        )
        return replace(result, people=tuple(self._answer(tracks, t_seconds)), timings=timings)

    async def _look(self, frame: Frame, deadline: float | None) -> tuple[Detections, Timings]:
        options = replace(self._options, min_detection_score=self._policy.faint_score)
        return await self._engine.detect(frame, options, deadline=deadline, priority=self._priority)

    def _answer(self, tracks: list[Track], t: float) -> list[Pose]:
        people = [person_of(track) for track in tracks]
        if self._smooth:
            people = [
                replace(person, keypoints=self._smoother(track).step(t, person.keypoints, size_of(person.box_xywh)))
                for track, person in zip(tracks, people, strict=True)
            ]
            followed = {track.track_id for track in self._tracker.tracks}
            self._smoothers = {i: smoother for i, smoother in self._smoothers.items() if i in followed}
        return sorted(people, key=lambda person: -person.score)

    def _smoother(self, track: Track) -> KeypointSmoother:
        return self._smoothers.setdefault(track.track_id, KeypointSmoother(len(track.pose.keypoints.scores)))
