"""Damaged images: each is refused, or is answered like any other, and the next good one is answered as ever."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from loadtests.hostile import images
from loadtests.hostile.verdict import fault_of
from tests.hostile.conftest import Service

COUNT = 360
GOOD_EVERY = 40


@pytest.mark.parametrize("name", images.sources())
def test_what_is_damaged_was_a_good_image(service: Service, name: str) -> None:
    assert service.send("/v1/pose", images.sources()[name], "image/jpeg")[0] == 200


def test_a_number_gives_the_same_image_each_time_and_another_gives_another() -> None:
    first = [images.mutated(number) for number in range(60)]
    assert [images.mutated(number) for number in range(60)] == first
    assert len({data for _, data in first}) == 60
    assert not {data for _, data in first} & set(images.sources().values())


def test_no_damaged_image_fails_the_service_or_what_comes_beside_it(service: Service, threads: ThreadPoolExecutor) -> None:
    good = service.people()
    statuses: Counter[int] = Counter()

    def one(number: int) -> str | None:
        if number % GOOD_EVERY == 0:
            assert service.people() == good, f"before {number}"
        media_type, data = images.mutated(number)
        status, content_type, body = service.send("/v1/pose", data, media_type)
        statuses[status] += 1
        return fault_of(status, content_type, body)

    faults = {number: fault for number, fault in enumerate(threads.map(one, range(COUNT))) if fault}
    assert faults == {}
    assert statuses[400] > COUNT / 4  # the damage is real,
    assert statuses[200] > COUNT / 10  # and not so great that no decoder sees it
