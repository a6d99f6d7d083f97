"""What ordinary clients send beside what is documented: other media types, names of parts, and forms of base64."""

import base64
import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.support import JPEG, JSON, MULTIPART, Api, assert_problem, multipart, people_of

WRAPPED = Path(__file__).parents[3] / "shared/cases/b64_wrapped.json"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

MEDIA_TYPES = [
    "image/jpg",
    "image/pjpeg",
    "image/jfif",
    "image/png",
    "image/heic",
    "image/heif",
    "image/avif",
    "image/*",
    "application/octet-stream",
    "binary/octet-stream",
    "application/x-www-form-urlencoded",
    "Image/JPEG; charset=binary",
    "",
]


async def test_an_image_is_taken_by_its_bytes(api: Api, astronaut: bytes) -> None:
    for media_type in MEDIA_TYPES:
        assert len(people_of(await api.post(astronaut, {"Content-Type": media_type}))) == 1, media_type
    assert len(people_of(await api.client.post("/v1/pose", content=astronaut))) == 1


async def test_bytes_that_are_no_image_are_a_bad_picture(api: Api) -> None:
    for media_type in ("application/octet-stream", "image/jpg", "image/avif", ""):
        for body in (b"", b"Dear Sir or Madam"):
            assert_problem(await api.post(body, {"Content-Type": media_type}), 400, "bad-picture")


async def test_a_form_is_told_what_to_send(api: Api) -> None:
    for body in (b"", b"image=astronaut.jpg"):
        assert_problem(await api.post(body, FORM), 415, "unsupported-media-type", "image/jpeg")


async def test_a_part_has_one_of_the_common_names(api: Api, astronaut: bytes) -> None:
    names = ("image", "image[]", "images", "images[]", "file", "file[]", "files", "files[]")
    answer = await api.post(multipart(*[(name, "a.jfif", astronaut) for name in names]), MULTIPART)
    assert [len(people_of(answer, i)) for i in range(len(names))] == [1] * len(names)


async def test_a_part_that_is_text_is_named(api: Api) -> None:
    assert_problem(await api.post(multipart(("file", None, b"hello")), MULTIPART), 400, "bad-body", "'file' is text")


FORMS: dict[str, Callable[[str], str]] = {
    "data URL": lambda text: f"data:image/jpeg;base64,{text}",
    "data URL with a parameter": lambda text: f"data:image/jpeg;name=a.jpg;BASE64,{text}",
    "wrapped": lambda text: textwrap.fill(text, 76),
    "wrapped by CRLF": lambda text: "\r\n".join(textwrap.wrap(text, 64)) + "\r\n",
    "spaces around": lambda text: f" \t{text}\n",
    "URL-safe": lambda text: text.replace("+", "-").replace("/", "_"),
    "without padding": lambda text: text.rstrip("="),
    "all of it": lambda text: "\ndata:;base64," + textwrap.fill(text.rstrip("=").replace("+", "-").replace("/", "_"), 76),
}


async def test_base64_is_taken_in_its_common_forms(api: Api, astronaut: bytes) -> None:
    people = people_of(await api.post(astronaut))
    image = astronaut + bytes((1 - len(astronaut)) % 3)  # so that there is padding
    text = base64.b64encode(image).decode()
    assert text.endswith("==")
    assert {"+", "/"} <= set(text)
    answer = await api.post(json.dumps({"images": [{"base64": form(text)} for form in FORMS.values()]}).encode(), JSON)
    assert [people_of(answer, i) for i in range(len(FORMS))] == [people] * len(FORMS)


async def test_base64_of_a_file_that_mail_programs_write_is_taken(api: Api) -> None:
    if not WRAPPED.exists():
        pytest.skip("../shared/cases is not here")
    assert (await api.post(WRAPPED.read_bytes(), JSON)).status_code == 200


GARBAGE = ["A", "AAAAA", "AA=A", "AAAA!", "data:image/png,AAAA", "data:image/png;base64", "AAAA\x00", "A\u00e9==", "\U0001f600"]


async def test_what_is_no_base64_is_named_by_its_index(api: Api) -> None:
    for text in GARBAGE:
        body = json.dumps({"images": [{"base64": "AAAA"}, {"base64": text}]}).encode()
        assert_problem(await api.post(body, JSON), 422, "bad-parameter", "images[1].base64", image=1)


async def test_the_documentation_offers_bytes_without_a_type(api: Api) -> None:
    content = api.app.openapi()["paths"]["/v1/pose"]["post"]["requestBody"]["content"]
    assert {"application/octet-stream", *JPEG.values()} <= set(content)
