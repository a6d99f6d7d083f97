"""Bodies with a Content-Encoding."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np

from tests.sample_images import encode as encode_image
from tests.server.support import JPEG, JSON, MULTIPART, Api, StartApi, assert_problem, chunks, images, json_body, people_of

DOT = encode_image(np.zeros((8, 8, 3), np.uint8), ".png")


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[:1000]) + gzip.compress(data[1000:])


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip of two members": ("GZip", two_members),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's header": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "none": ("", bytes),
    "gzip and identity": ("identity, gzip", gzip.compress),
}


async def test_is_undone_for_every_kind_of_body(api: Api, astronaut: bytes) -> None:
    people = people_of(await api.post(astronaut))
    for coding, encode in CODINGS.values():
        headers = JPEG | {"Content-Encoding": coding}
        assert people_of(await api.post(encode(astronaut), headers)) == people, coding
    for body, headers in ((images(astronaut), MULTIPART), (json_body(astronaut), JSON)):
        assert people_of(await api.post(gzip.compress(body), headers | {"Content-Encoding": "gzip"})) == people


async def test_is_undone_byte_by_byte(api: Api) -> None:
    for name, (coding, encode) in CODINGS.items():
        body = encode(DOT)
        answer = await api.post(chunks(body[i : i + 1] for i in range(len(body))), JPEG | {"Content-Encoding": coding})
        assert (answer.status_code, answer.json()["images"][0]["width"]) == (200, 8), name


async def test_another_one_is_named_and_ours_are_listed(api: Api, astronaut: bytes) -> None:
    for coding in ("br", "zstd", "compress", "gzip, gzip", "gzip, br", "\xe9"):
        headers = {b"Content-Type": b"image/jpeg", b"Content-Encoding": coding.encode("latin-1")}
        answer = await api.client.post("/v1/pose", content=astronaut, headers=headers)
        assert_problem(answer, 415, "unsupported-encoding", ascii(coding))
        assert "gzip, deflate" in answer.json()["detail"]
        assert answer.headers["Accept-Encoding"] == "gzip, deflate"


async def test_damaged_data_are_a_bad_body(api: Api, astronaut: bytes) -> None:
    for coding, whole in (("gzip", gzip.compress(astronaut)), ("deflate", zlib.compress(astronaut))):
        headers = JPEG | {"Content-Encoding": coding}
        for body, says in (
            (astronaut, "damaged"),
            (whole[:-2] + b"\0\0", "damaged"),
            (whole[:-1], "cut short"),
            (whole[:1], "cut short"),
            (b"", "cut short"),
            (whole + b"more", "damaged" if coding == "gzip" else "follow the end"),
        ):
            assert_problem(await api.post(body, headers), 400, "bad-body", says)
        assert await api.metric("posewire_body_bytes_in_flight") == 0
        assert len(people_of(await api.post(whole, headers))) == 1


async def test_a_bomb_is_inflated_no_further_than_the_limit(start_api: StartApi) -> None:
    limit = 300_000
    api = await start_api(max_bytes=limit, max_request_bytes=limit)
    start = b'--XX\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    for headers, coding in ((JPEG, "gzip"), (MULTIPART, "deflate"), (JSON, "gzip")):
        bomb = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
        body = bomb.compress(start if headers is MULTIPART else b"") + bomb.compress(bytes(50_000_000)) + bomb.flush()
        assert len(body) < limit
        tracemalloc.start()
        try:
            answer = await api.post(body, headers | {"Content-Encoding": coding})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert_problem(answer, 413, "too-large", f"the limit of {limit} bytes")
        assert peak < 10_000_000
        assert await api.metric("posewire_body_bytes_in_flight") == 0


async def test_the_memory_for_bodies_is_charged_with_what_is_inflated(start_api: StartApi) -> None:
    api = await start_api(max_bytes_in_flight=1_000_000)
    body = gzip.compress(bytes(5_000_000))
    assert_problem(await api.post(body, {"Content-Encoding": "gzip"}), 413, "too-large", "one client may hold")
