"""Bad images and bodies: each has its problem, is counted, and leaves the service as it was."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.sample_images import encode
from tests.server.support import JPEG, JSON, MULTIPART, PNG, Api, StartApi, assert_problem, chunks, images, json_body, multipart, people_of

WEBP = {"Content-Type": "image/webp"}
LIMIT = 20_000_000
DOT = encode(np.zeros((2, 2, 3), np.uint8), ".png")


class Case(NamedTuple):
    body: Callable[[bytes], bytes]  # of the astronaut
    headers: dict[str, str]
    status: int
    slug: str
    says: str
    image: int | None = None


def huge_png(_: bytes) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def animated(_: bytes) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


def is_bytes(content: bytes) -> Callable[[bytes], bytes]:
    return lambda _: content


def is_json(value: object) -> Callable[[bytes], bytes]:
    return is_bytes(json.dumps(value).encode())


CASES = {
    "empty": Case(is_bytes(b""), JPEG, 400, "bad-picture", "nothing"),
    "truncated": Case(lambda good: good[:-2000], JPEG, 400, "bad-picture", "cut short"),
    "a bomb": Case(huge_png, PNG, 413, "too-large", "100000 x 100000"),
    "text as JPEG": Case(is_bytes(b"Dear Sir or Madam"), JPEG, 400, "bad-picture", "text"),
    "text named .jpg": Case(is_bytes(multipart(("image", "me.jpg", b"Hello"))), MULTIPART, 400, "bad-picture", "text"),
    "animation": Case(animated, WEBP, 400, "bad-picture", "one still frame"),
    "GIF": Case(is_bytes(b"GIF89a" + bytes(20)), JPEG, 400, "bad-picture", "GIF"),
    "media type of a GIF": Case(lambda good: good, {"Content-Type": "image/gif"}, 415, "unsupported-media-type", "image/gif is not"),
    "media type of a form": Case(
        is_bytes(b"max_people=3"),
        {"Content-Type": "application/x-www-form-urlencoded"},
        415,
        "unsupported-media-type",
        "multipart/form-data",
    ),
    "21 MB": Case(is_bytes(bytes(21_000_000)), JPEG, 413, "too-large", str(LIMIT)),
    "21 MB part": Case(lambda good: images(good, bytes(21_000_000)), MULTIPART, 413, "too-large", str(LIMIT), 1),
    "21 MB in base64": Case(lambda good: json_body(good, bytes(21_000_000)), JSON, 413, "too-large", str(LIMIT), 1),
    "JSON cut": Case(lambda good: json_body(good)[:-3], JSON, 400, "bad-body", "not JSON"),
    "JSON empty": Case(is_bytes(b""), JSON, 400, "bad-body", "not JSON"),
    "JSON not UTF-8": Case(is_bytes(b'{"images": "\xff"}'), JSON, 400, "bad-body", "not JSON"),
    "JSON too deep": Case(is_bytes(b"[" * 100_000), JSON, 400, "bad-body", "not JSON"),
    "JSON list": Case(is_json([]), JSON, 422, "bad-parameter", "object"),
    "JSON of another shape": Case(is_json({"image": "…"}), JSON, 422, "bad-parameter", "images: field required"),
    "JSON with an unknown key": Case(is_json({"images": [{"base64": "", "box\n": 1}]}), JSON, 422, "bad-parameter", "images[0].'box"),
    "JSON without images": Case(is_json({"images": []}), JSON, 422, "bad-parameter", "images: "),
    "JSON number for base64": Case(is_json({"images": [{"base64": 7}]}), JSON, 422, "bad-parameter", "images[0].base64: "),
    "not base64": Case(is_json({"images": [{"base64": "!!!!"}]}), JSON, 422, "bad-parameter", "images[0].base64", 0),
    "base64 of other letters": Case(is_json({"images": [{"base64": "äöü="}]}), JSON, 422, "bad-parameter", "images[0].base64", 0),
    "data URL of text": Case(is_json({"images": [{"base64": "data:text/plain,AAAA"}]}), JSON, 422, "bad-parameter", "data: URL", 0),
    "17 parts": Case(is_bytes(images(*[DOT] * 17)), MULTIPART, 413, "too-large", "17 images"),
    "17 in JSON": Case(is_bytes(json_body(*[DOT] * 17)), JSON, 413, "too-large", "17 images"),
    "300 parts": Case(is_bytes(images(*[DOT] * 300)), MULTIPART, 400, "bad-body", "too many files"),
    "no boundary": Case(images, {"Content-Type": "multipart/form-data"}, 400, "bad-body", "boundary"),
    "other boundary": Case(images, {"Content-Type": "multipart/form-data; boundary=YY"}, 400, "bad-body", "multipart"),
    "long boundary": Case(images, {"Content-Type": "multipart/form-data; boundary=" + "a" * 500}, 400, "bad-body", "multipart"),
    "multipart empty": Case(is_bytes(b""), MULTIPART, 400, "bad-body", "multipart"),
    "no parts": Case(is_bytes(b"--XX--\r\n"), MULTIPART, 400, "bad-body", "no part named 'image'"),
    "unknown part": Case(lambda good: multipart(("photo", "a.jpg", good)), MULTIPART, 400, "bad-body", "'photo'"),
    "unknown text part": Case(
        lambda good: multipart(("image", "a.jpg", good), ("max_people", None, b"3")), MULTIPART, 400, "bad-body", "go in the query"
    ),
    "text part": Case(is_bytes(multipart(("image", None, b"hello"))), MULTIPART, 400, "bad-body", "as a file"),
    "part without a name": Case(lambda good: images(good).replace(b' name="image";', b""), MULTIPART, 400, "bad-body", "name"),
    "last part cut": Case(lambda good: images(good, good)[:-2000], MULTIPART, 400, "bad-body", "closing boundary"),
    "closing boundary cut": Case(lambda good: images(good)[:-4], MULTIPART, 400, "bad-body", "closing boundary"),
    "second of three": Case(lambda good: images(good, good[:-2000], good), MULTIPART, 400, "bad-picture", "cut short", 1),
    "third in JSON": Case(lambda good: json_body(good, good, b"text"), JSON, 400, "bad-picture", "text", 2),
}


@pytest.mark.parametrize("name", CASES)
async def test_is_told_counted_and_got_over(api: Api, astronaut: bytes, name: str) -> None:
    case = CASES[name]
    assert await api.metric("posewire_rejections_total") == 0
    assert_problem(await api.post(case.body(astronaut), case.headers), case.status, case.slug, case.says, image=case.image)
    assert await api.metric("posewire_rejections_total") == 1
    assert await api.metric("posewire_rejections_total", reason=case.slug) == 1
    assert await api.in_flight() == 0
    assert len(people_of(await api.post(astronaut))) == 1


@pytest.mark.parametrize("headers", [JPEG, JSON, MULTIPART])
async def test_a_body_without_a_length_is_read_no_further_than_the_limit(start_api: StartApi, headers: dict[str, str]) -> None:
    api = await start_api(max_bytes=1000, max_request_bytes=1000)
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        piece = b'--XX\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' if headers is MULTIPART else bytes(100)
        while sent < 100_000:
            sent += len(piece)
            yield piece
            piece = bytes(100)

    assert_problem(await api.post(chunks(pieces()), headers), 413, "too-large", "the limit of 1000 bytes")
    assert 1000 < sent < 1500


async def test_a_body_whose_length_is_over_the_limit_is_not_read(api: Api) -> None:
    def pieces() -> Iterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    headers = JPEG | {"Content-Length": "21000000"}
    assert_problem(await api.post(chunks(pieces()), headers), 413, "too-large", f"the limit of {LIMIT} bytes")


async def test_more_images_than_can_ever_be_in_flight_are_not_told_to_try_again(start_api: StartApi, astronaut: bytes) -> None:
    api = await start_api(max_in_flight=2)
    assert_problem(await api.post(images(astronaut, astronaut, astronaut), MULTIPART), 413, "too-large", "more than the 2")
    assert (await api.post(images(astronaut, astronaut), MULTIPART)).status_code == 200
