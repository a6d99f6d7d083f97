"""Overload: requests that do not fit are refused whole, with a time after which to try again."""

import asyncio
from collections.abc import Iterator

import pytest

from posewire.engine.engine import Engine
from tests.server.support import (
    JSON,
    MULTIPART,
    Api,
    Gate,
    GatedDetector,
    StartApi,
    assert_overloaded,
    assert_problem,
    chunks,
    eventually,
    hold,
    images,
    json_body,
    people_of,
)


async def test_the_third_of_two_is_turned_away_and_the_two_are_answered(full: Api, gate: Gate, astronaut: bytes) -> None:
    with gate.shut():
        held = await hold(full, astronaut, 2)
        for _ in range(3):
            assert_overloaded(await full.post(astronaut))
        assert await full.in_flight() == 2
    for answer in await asyncio.gather(*held):
        assert len(people_of(answer)) == 1
    assert await full.in_flight() == 0
    assert await full.metric("posewire_rejections_total", reason="overloaded") == 3
    assert len(people_of(await full.post(astronaut))) == 1
    assert await full.runs("detector") == 3


async def test_who_is_turned_away_is_not_read(full: Api, gate: Gate, astronaut: bytes) -> None:
    def unread() -> Iterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    with gate.shut():
        held = await hold(full, astronaut, 2)
        assert_overloaded(await full.post(chunks(unread())))
    await asyncio.gather(*held)


@pytest.mark.parametrize("kind", ["multipart", "JSON"])
async def test_several_images_find_room_all_or_none(start_api: StartApi, models: Engine, gate: Gate, astronaut: bytes, kind: str) -> None:
    api = await start_api(max_in_flight=3, detector=GatedDetector(models.detector, gate))
    body, headers = (images, MULTIPART) if kind == "multipart" else (json_body, JSON)
    with gate.shut():
        held = await hold(api, astronaut, 2)
        assert_overloaded(await api.post(body(astronaut, astronaut), headers))
        assert await api.in_flight() == 2
        held += [asyncio.create_task(api.post(body(astronaut), headers))]  # one still fits

        async def three() -> bool:
            return await api.in_flight() == 3

        await eventually(three)
    assert [len(people_of(answer)) for answer in await asyncio.gather(*held)] == [1, 1, 1]
    assert await api.in_flight() == 0
    assert await api.metric("posewire_pictures_total") == 3  # of the two that did not fit, not even one was begun
    answer = await api.post(body(astronaut, astronaut, astronaut), headers)
    assert [len(people_of(answer, i)) for i in range(3)] == [1, 1, 1]


async def test_an_image_that_is_bad_gives_its_place_back_and_its_neighbours_theirs(full: Api, astronaut: bytes) -> None:
    for _ in range(3):
        assert_problem(await full.post(images(astronaut, b"text"), MULTIPART), 400, "bad-picture", image=1)
        assert await full.in_flight() == 0
    assert len(people_of(await full.post(images(astronaut, astronaut), MULTIPART), 1)) == 1
