"""HTTP that no client would write: it is answered, refused or cut off, and never fails the service."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from loadtests.hostile import framing
from loadtests.hostile.framing import Reply
from loadtests.hostile.verdict import fault_of
from tests.hostile.conftest import Service

COUNT = 300
SIDE_BY_SIDE = 16  # many of them are never answered, and wait for nothing


@pytest.fixture(scope="module")
def replies(running: Service) -> Sequence[list[Reply]]:
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        return list(threads.map(lambda number: framing.exchange(running.target, framing.request(number)), range(COUNT)))


def test_a_number_gives_the_same_bytes_each_time() -> None:
    assert [framing.request(number) for number in range(50)] == [framing.request(number) for number in range(50)]


@pytest.mark.parametrize("number", range(8))
def test_what_is_damaged_was_a_good_request(service: Service, number: int) -> None:
    assert [reply.status for reply in framing.exchange(service.target, framing.whole(number), wait_s=60)] == [200]


def test_no_damaged_request_fails_the_service(service: Service, replies: Sequence[list[Reply]]) -> None:
    statuses = Counter(reply.status for each in replies for reply in each)
    assert not [status for status in statuses if status >= 500 and status not in (501, 503, 504)], statuses
    assert statuses[400] > COUNT / 10


def test_every_refusal_is_a_problem(replies: Sequence[list[Reply]]) -> None:
    faults = {n: fault for n, each in enumerate(replies) for reply in each if (fault := fault_of(*reply, framing.PAGES))}
    assert faults == {}
