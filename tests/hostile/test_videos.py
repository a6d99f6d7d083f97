"""Damaged videos: each is refused, or is answered as far as it goes."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from loadtests.hostile import videos
from loadtests.hostile.verdict import fault_of
from tests.hostile.conftest import Service

COUNT = 36


@pytest.mark.parametrize("container", videos.CONTAINERS)
def test_what_is_damaged_was_a_good_video(service: Service, container: str) -> None:
    status, content_type, body = service.send("/v1/video", videos.sources()[container], "video/mp4")
    assert (status, fault_of(status, content_type, body)) == (200, None)
    assert b'"type":"end","frames":6' in body


def test_no_damaged_video_fails_the_service(service: Service, threads: ThreadPoolExecutor) -> None:
    statuses: Counter[int] = Counter()

    def one(number: int) -> str | None:
        status, content_type, body = service.send("/v1/video", videos.mutated(number), "video/mp4")
        statuses[status] += 1
        return fault_of(status, content_type, body)

    faults = {number: fault for number, fault in enumerate(threads.map(one, range(COUNT))) if fault}
    assert faults == {}
    assert statuses[400] > 3
    assert statuses[200] > 3


def test_metadata_that_is_not_utf8_fails_nothing(service: Service) -> None:
    video = videos.sources()["mp4"]
    assert b"Lavf" in video  # the name of the program that wrote it
    status, content_type, body = service.send("/v1/video", video.replace(b"Lavf", b"\xfe\xff\xfe\xff"), "video/mp4")
    assert fault_of(status, content_type, body) is None
