"""What `pose`, `draw`, `models` and `ready` take and return, against real servers."""

import asyncio
import inspect
import io
import pydoc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from posewire import client as client_package
from posewire.client import AsyncPoseClient, AsyncPoseStream, AsyncPoseVideo, PoseClient, PoseStream, PoseVideo
from posewire.errors import BadParameter, ConnectionLost, NotAcceptable, Unauthorized, UnexpectedAnswer
from posewire.server.auth import new_key
from posewire.types import UInt8Array
from tests.sample_images import ASTRONAUT
from tests.server.streaming import Listen


@asynccontextmanager
async def answering(content_type: str, body: bytes, status: str = "200 OK") -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer every request in the same way; yields the address and the heads of the requests."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0)
        await reader.readexactly(length)
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


async def test_pixels_are_sent_with_their_colours(listen: Listen, astronaut_pixels: UInt8Array) -> None:
    server = await listen()
    bgr = np.ascontiguousarray(astronaut_pixels[..., ::-1])
    async with AsyncPoseClient(server.url) as client:
        encoded = (await client.pose(ASTRONAUT)).images[0]
        answers = [
            await client.pose(astronaut_pixels),
            await client.pose(bgr, colour="BGR"),
            await client.pose(astronaut_pixels[:, ::-1][:, ::-1]),  # a view that is not contiguous
            await client.pose(Image.fromarray(astronaut_pixels)),
        ]
        drawn = await client.draw(bgr, colour="BGR", media_type="image/png")
    for answer in answers:
        [image] = answer.images
        assert (image.width, image.height) == (512, 512)
        pairs = list(zip(image.people[0].keypoints, encoded.people[0].keypoints, strict=True))
        found, wanted = (np.array([(pair[i].x, pair[i].y) for pair in pairs if pair[0].score > 0.5]) for i in (0, 1))
        assert np.abs(found - wanted).max() < 5
    pixels = np.asarray(Image.open(io.BytesIO(drawn)))
    assert np.median(np.abs(pixels.astype(int) - astronaut_pixels)) <= 3  # most pixels are not drawn on; red and blue are not exchanged


async def test_a_pil_image_is_sent_upright(listen: Listen, astronaut_pixels: UInt8Array) -> None:
    turned = Image.fromarray(astronaut_pixels[:, :300]).transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # turn by 90 degrees clockwise to show it
    server = await listen()
    async with AsyncPoseClient(server.url) as client:
        [image] = (await client.pose(turned)).images
    assert (image.width, image.height) == (300, 512)


async def test_pixels_of_another_form_are_refused_before_anything_is_sent(astronaut: bytes, astronaut_pixels: UInt8Array) -> None:
    others: list[tuple[Any, type[Exception], str]] = [
        (astronaut_pixels.astype(np.float32), TypeError, "dtype is uint8"),
        (astronaut_pixels[..., 0], ValueError, r"\(H, W, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"\(H, W, 3\)"),
        (Image.new("I;16", (4, 4)), ValueError, "8 bits"),
    ]
    grey: Any = "grey"
    async with AsyncPoseClient("http://127.0.0.1:9", retries=0) as client:
        for image, kind, words in others:
            with pytest.raises(kind, match=words):
                await client.pose(image)
        for image in (astronaut, astronaut_pixels):
            with pytest.raises(ValueError, match="'RGB' or 'BGR'"):
                await client.pose(image, colour=grey)


async def test_the_coco_format_is_typed(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with AsyncPoseClient(server.url) as client:
        rows = await client.pose(astronaut, astronaut, format="coco")
        assert [row.image_id for row in rows] == [0, 1]
        assert len(rows[0].keypoints) == 51
        with pytest.raises(BadParameter, match="format"):
            await client.pose(astronaut, format="no-such-format")


@pytest.mark.parametrize(
    ("content_type", "body", "wanted"),
    [
        ("application/json", b'[{"a": 1}]', [{"a": 1}]),
        ("application/geo+json; charset=utf-8", b"{}", {}),
        ("text/csv; charset=utf-8", "name,é\n".encode(), "name,é\n"),
        ("application/xml", b"<a/>", "<a/>"),
        ("application/vnd.apache.parquet", b"PAR1\x00", b"PAR1\x00"),
    ],
)
async def test_other_formats_are_json_text_or_bytes(astronaut: bytes, content_type: str, body: bytes, wanted: object) -> None:
    async with answering(content_type, body) as (url, heads), AsyncPoseClient(url) as client:
        assert await client.pose(astronaut, format="any", normalized=True, max_people=2) == wanted
    target = heads[0].split()[1].decode()
    assert target.partition("?")[2].split("&") == ["max_people=2", "format=any", "normalized=true"]


async def test_an_answer_of_another_form_is_unexpected(astronaut: bytes) -> None:
    async with answering("application/json", b"{") as (url, _), AsyncPoseClient(url) as client:
        for request in (client.pose(astronaut), client.pose(astronaut, format="any"), client.draw(astronaut), client.models()):
            with pytest.raises(UnexpectedAnswer, match="does not answer as this version"):
                await request


async def test_drawn_images_have_the_media_type_that_was_asked_for(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with AsyncPoseClient(server.url) as client:
        jpeg, png = await client.draw(astronaut), await client.draw(astronaut, media_type="image/png", max_people=1)
        assert Image.open(io.BytesIO(jpeg)).format == "JPEG"
        assert Image.open(io.BytesIO(png)).format == "PNG"
        with pytest.raises(NotAcceptable, match="image/png"):
            await client.draw(astronaut, media_type="image/gif")  # type: ignore[arg-type]


async def test_the_models_of_the_service_are_listed(listen: Listen) -> None:
    server = await listen()
    async with AsyncPoseClient(server.url) as client:
        models = await client.models()
    assert len(models.models) == 2
    [pose] = [model for model in models.models if model.task == "pose"]
    assert pose.keypoints is not None
    assert pose.keypoints[0] == "nose"


async def test_a_service_is_ready_or_not(listen: Listen) -> None:
    server = await listen()
    async with AsyncPoseClient(server.url) as client:
        assert await client.ready()
        server.services.drain.set()
        assert not await client.ready()
    async with AsyncPoseClient("http://127.0.0.1:9") as client:
        assert not await client.ready()
    async with AsyncPoseClient(f"{server.url}/nowhere") as client:
        with pytest.raises(UnexpectedAnswer):
            await client.ready()


async def test_the_api_key_is_sent_with_requests_and_streams(listen: Listen, tmp_path: Path, astronaut: bytes) -> None:
    key, line = new_key("camera")
    (tmp_path / "keys").write_text(line)
    server = await listen(api_keys_file=tmp_path / "keys", stream_deadline_ms=30_000)
    async with AsyncPoseClient(server.url, api_key=key, headers={"X-Request-Id": "mine"}) as client:
        assert (await client.pose(astronaut)).request_id == "mine"
        assert (await client.models()).models
        async with client.stream() as stream:
            stream.offer(astronaut)
            assert (await anext(stream)).people
    async with AsyncPoseClient(server.url, api_key="wrong") as client:
        with pytest.raises(Unauthorized):
            await client.models()


def public(kind: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_") and inspect.isroutine(member)}


@pytest.mark.parametrize(("blocking", "other"), [(PoseClient, AsyncPoseClient), (PoseStream, AsyncPoseStream), (PoseVideo, AsyncPoseVideo)])
def test_both_clients_have_the_same_methods_with_the_same_parameters(blocking: type, other: type) -> None:
    methods, others = public(blocking), public(other)
    assert methods.keys() == others.keys() - {"close"}  # the blocking ones are closed by `with`
    for name, method in methods.items():
        mine, theirs = inspect.signature(method), inspect.signature(others[name])
        forms = [[(p.name, p.kind, p.default) for p in signature.parameters.values()] for signature in (mine, theirs)]
        assert forms[0] == forms[1], name
        assert inspect.getdoc(method), name
    if blocking is PoseClient:
        assert inspect.signature(PoseClient) == inspect.signature(AsyncPoseClient)


@pytest.mark.parametrize("kind", [PoseClient, AsyncPoseClient])
def test_help_shows_the_real_signature(kind: type[PoseClient | AsyncPoseClient]) -> None:
    text = pydoc.plain(pydoc.render_doc(kind.pose))
    assert "max_people: int | None = None" in text
    assert "(H, W, 3) uint8" in text
    assert "kwargs" not in text


def test_every_public_name_of_the_client_exists() -> None:
    assert all(hasattr(client_package, name) for name in client_package.__all__)


def test_a_client_that_is_not_open_says_how_to_open_it(astronaut: bytes) -> None:
    closed = PoseClient("http://127.0.0.1:9")
    calls: list[Callable[[], object]] = [lambda: closed.pose(astronaut), closed.models, closed.stream, lambda: closed.video(b"")]
    for call in calls:
        with pytest.raises(ConnectionLost, match="with PoseClient"):
            call()
