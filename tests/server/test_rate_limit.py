"""A client that sends more than it may."""

import pytest
from starlette.requests import HTTPConnection

from posewire.errors import RateLimited
from posewire.server.limits import KEY_HOLDER, RateLimit
from tests.server.support import MULTIPART, Api, StartApi, assert_problem, images, people_of

A, B = "192.0.2.1", "192.0.2.2"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def client(address: str, holder: str | None = None) -> HTTPConnection:
    return HTTPConnection({"type": "http", "client": (address, 1), "headers": [], KEY_HOLDER: holder})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> RateLimit:
    """Two images a second, four at once."""
    return RateLimit(2.0, 4, clock)


def refused(limit: RateLimit, who: HTTPConnection, images: int = 1) -> int:
    with pytest.raises(RateLimited) as caught:
        limit.charge(who, images)
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


def test_a_burst_then_the_rate(limit: RateLimit, clock: Clock) -> None:
    for _ in range(4):
        limit.charge(client(A), 1)
    assert refused(limit, client(A)) == 1
    clock.now += 0.5
    limit.charge(client(A), 1)
    refused(limit, client(A))
    clock.now += 1000  # no more than a burst is saved up
    limit.charge(client(A), 4)
    assert refused(limit, client(A), 4) == 2


def test_one_client_s_hurry_is_not_another_s_wait(limit: RateLimit) -> None:
    limit.charge(client(A), 4)
    refused(limit, client(A))
    limit.charge(client(B), 4)
    limit.charge(client(A, "key"), 4)
    refused(limit, client(B, "key"))  # the key's holder is the client, wherever it calls from
    limit.charge(client(A, A), 1)  # and a holder is no address


def test_more_than_a_burst_leaves_a_debt(limit: RateLimit, clock: Clock) -> None:
    limit.charge(client(A), 10)
    assert refused(limit, client(A)) == 4  # six owed, one wanted, two a second
    clock.now += 3.5
    limit.charge(client(A), 1)


def test_clients_that_are_made_up_take_no_memory_without_end(limit: RateLimit) -> None:
    limit.charge(client(A), 4)
    for i in range(10_000):
        limit.charge(client(B, str(i)), 1)
    limit.charge(client(A), 4)  # long forgotten


def test_without_a_rate_there_is_no_limit(clock: Clock) -> None:
    limit = RateLimit(0.0, 1, clock)
    for _ in range(100):
        limit.charge(client(A), 100)


async def test_over_http_it_is_429_with_the_time_to_come_back(start_api: StartApi, astronaut: bytes) -> None:
    api: Api = await start_api(rate_limit=0.001, rate_burst=3)
    people_of(await api.post(astronaut))
    people_of(await api.post(images(astronaut, astronaut), MULTIPART), 1)
    for content, headers in ((astronaut, {"X-Api-Key": "another", "X-Forwarded-For": "192.0.2.1"}), (images(astronaut), MULTIPART)):
        answer = await api.post(content, headers)
        assert_problem(answer, 429, "rate-limited", "try again")
        assert 900 <= int(answer.headers["Retry-After"]) <= 1000
    assert await api.in_flight() == 0
    assert await api.metric("posewire_rejections_total", reason="rate-limited") == 2
    assert (await api.client.get("/readyz")).status_code == 200
