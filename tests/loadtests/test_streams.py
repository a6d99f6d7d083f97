"""The measurement of what a stream's frame costs, against a server in this process."""

import psutil
import pytest

from loadtests.processes import Server
from loadtests.streams.cost import stretch
from tests.server.streaming import Listen


@pytest.mark.parametrize("track", [True, False])
async def test_a_stretch_spares_the_detector_where_it_tracks_alone(listen: Listen, astronaut: bytes, track: bool) -> None:
    server = await listen(stream_deadline_ms=60_000)
    cost, people = await stretch(Server(psutil.Process(), server.url), [astronaut] * 4, track)
    assert cost > 0
    assert people == 1
    answered = server.metric("posewire_frames_answered_total")
    assert answered >= 12
    looked = server.metric("posewire_batch_size_sum", model="detector")
    assert looked < answered if track else looked == answered
    assert server.metric("posewire_frames_answered_total", detector="ran") == looked
