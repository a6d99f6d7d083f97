"""One video of a caller on the engine: identities, smoothing, and the detector only where it is needed."""

from posewire.engine.engine import Engine
from posewire.pipeline.tracking.video import DETECT_EVERY, VideoTracker
from posewire.types import Frame, PoseOptions, PoseResult, Priority, Timings


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
        self._priority = priority
        self._video = VideoTracker(engine.pose.spec.keypoints.oks_sigmas, options, smooth=smooth, detect_every=detect_every)

    @property
    def tracks(self) -> int:
        """How many people are followed now, the lost among them."""
        return self._video.tracks

    async def step(self, frame: Frame, t_seconds: float, *, deadline: float | None = None) -> PoseResult:
        """Return everyone in the next frame, with `track_id` where the session tracks; timings without decoding.

        A frame that raises has not happened: the state is as it was, and the next frame may follow.

        Args:
            frame: upright, of the same size as the ones before; another size starts the identities anew.
            t_seconds: when the frame was taken, on any clock; later than the frame before. Frames may be missing.
            deadline: in the event loop's time; None: none.

        Raises:
            DeadlineExceeded, Overloaded, Draining, InferenceFailed: as `Engine.estimate_frame`.
        """
        engine, priority = self._engine, self._priority
        if not self._track:
            return await engine.estimate_frame(frame, self._options, deadline=deadline, priority=priority)
        begun = self._video.start(frame, t_seconds)
        found, detecting = None, Timings()
        if begun.detect_options is not None:
            found, detecting = await engine.detect(frame, begun.detect_options, deadline=deadline, priority=priority)
        chosen = self._video.choose(begun, found)
        result = await engine.estimate_frame(frame, chosen.options, deadline=deadline, priority=priority)
        return self._video.finish(chosen, result, detecting)
