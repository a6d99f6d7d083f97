"""How often an identity changes, against labels made by eye."""

from pathlib import Path

from loadtests.video.films import read, session_of, started_engine, through
from loadtests.video.labels import LAST_FRAME, people_in
from loadtests.video.matching import score


async def measure(video: Path) -> None:
    """Print identity switches and recall, with the detector on every frame and with skipping."""
    film = read(video, LAST_FRAME + 1)
    labels = [people_in(frame.index) for frame in film]
    async with started_engine() as engine:
        for every in (1, 5, 10):
            answers = await through(session_of(engine, detect_every=every, smooth=True), film)
            s = score(answers, labels)
            ids = len({p.track_id for people in answers for p in people})
            print(
                f"detect_every={every}: {len(film)} frames, {len({n for frame in labels for n in frame})} people, {s.labelled} labels: "
                f"{s.switches} identity switches, recall {s.recall:.3f}, {s.surplus} answers without a label, {ids} identities given"
            )
