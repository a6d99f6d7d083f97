"""The frames of one video, one after the other: identities, smoothing, and the detector only where it is needed."""

from posewire.inference.engine import Engine
from posewire.types import Frame, PoseOptions, PoseResult, Priority

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
        self._priority = priority

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
        return await self._engine.estimate_frame(frame, self._options, deadline=deadline, priority=self._priority)
