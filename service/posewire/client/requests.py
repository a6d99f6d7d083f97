"""The async client: sends images and videos, and opens streams."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar, overload
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from posewire.client.answers import error_of_problem, whole_seconds
from posewire.client.inputs import Boxes, Image, box_rows, read_image
from posewire.client.stream import AsyncPoseStream
from posewire.client.video import LINE_TIMEOUT_S, AsyncPoseVideo, EarlyAnswer, Video, open_video
from posewire.errors import BadParameter, ConnectionLost, UnexpectedAnswer
from posewire.imaging.decode import sniff
from posewire.imaging.draw import ImageType
from posewire.imaging.pixels import Colour, check_colour
from posewire.schemas.pose import CocoPerson, ModelsResponse, PoseResponse, describe
from posewire.schemas.stream import StartMessage

M = TypeVar("M")

# The service is at its limit, or a proxy in front of it does not reach it. Estimating poses changes nothing: it may be asked again.
_BUSY = (429, 502, 503)
_LONGEST_PAUSE_S = 60.0


_POSES = TypeAdapter(PoseResponse)
_COCO = TypeAdapter(list[CocoPerson])
_MODELS = TypeAdapter(ModelsResponse)


class AsyncPoseClient:
    """An async client; an async context manager.

    Args:
        url: of the service.
        api_key: sent as `Authorization: Bearer`; None: the service needs no key.
        timeout_s: of one request; it is also sent to the service as the deadline. For a video: of connecting, and of sending a piece.
        retries: of a request, if the service is busy (429, 502, 503), cannot be reached, or the connection is lost.
        headers: of every request and of the streams' handshakes.
        patience_s: how long a stream tries to connect before it gives up.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        retries: int = 4,
        headers: Mapping[str, str] | None = None,
        patience_s: float = 60.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._retries = retries
        self._headers = dict(headers or {}) | ({"Authorization": f"Bearer {api_key}"} if api_key is not None else {})
        self._patience_s = patience_s
        # A little longer than the deadline, so that the service itself reports that the deadline has passed.
        self._http = httpx.AsyncClient(headers=self._headers, timeout=timeout_s + 5)
        # Each upload has a new connection, which EarlyAnswer can watch.
        timeout, limits = httpx.Timeout(timeout_s + 5, read=LINE_TIMEOUT_S), httpx.Limits(max_keepalive_connections=0)
        self._uploads = httpx.AsyncClient(headers=self._headers, timeout=timeout, limits=limits)

    async def __aenter__(self) -> Self:
        """Return the client; the first request connects."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._uploads.aclose()

    @overload
    async def pose(
        self,
        *images: Image,
        colour: Colour = "RGB",
        format: Literal["posewire"] = "posewire",
        normalized: bool = False,
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float | None = None,
        boxes: Boxes | None = None,
    ) -> PoseResponse: ...

    @overload
    async def pose(
        self,
        *images: Image,
        colour: Colour = "RGB",
        format: Literal["coco"],
        normalized: bool = False,
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float | None = None,
        boxes: Boxes | None = None,
    ) -> list[CocoPerson]: ...

    @overload
    async def pose(
        self,
        *images: Image,
        colour: Colour = "RGB",
        format: str,
        normalized: bool = False,
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float | None = None,
        boxes: Boxes | None = None,
    ) -> Any: ...

    async def pose(
        self,
        *images: Image,
        colour: Colour = "RGB",
        format: str = "posewire",  # noqa: A002
        normalized: bool = False,
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float | None = None,
        boxes: Boxes | None = None,
    ) -> Any:
        """Estimate the poses of everyone in the images.

        Args:
            images: encoded (JPEG, PNG, WebP or BMP) as bytes, or paths of such files, or such files open in binary mode; or arrays
                (H, W, 3) uint8, or PIL images, which are sent as JPEG of quality 95.
            colour: the order of an array's channels, "RGB" or "BGR" (as OpenCV reads images).
            format: the name of a format of the service, such as "coco" or "csv".
            normalized: True returns coordinates as fractions of the image's width and height, 0..1, instead of pixels.
            max_people: the limit of people per image; the best are returned.
            min_detection_score: 0..1; people below it are left out.
            min_keypoint_score: 0..1; keypoints below it are left out.
            boxes: (N, 4) x, y, width, height in pixels, lists or an array; the detector is skipped. Only with a single image.

        Returns:
            A `PoseResponse`; with format="coco" a list of `CocoPerson`; else parsed JSON, `str` for a text, `bytes` for anything else.
            Coordinates are pixels of the upright image.

        Raises:
            ServiceError: the service rejects the request or fails; Overloaded and similar errors only after the retries.
            BadParameter: the boxes are not (N, 4) numbers, or the service has no such format.
            ConnectionLost, UnexpectedAnswer: the service cannot be reached, or the server is not Posewire.
            TypeError, ValueError: an image or the colour is not as described above.
            OSError: a file cannot be read.
        """
        query = _query(max_people=max_people, min_detection_score=min_detection_score, min_keypoint_score=min_keypoint_score, boxes=boxes)
        if format != "posewire":
            query["format"] = format
        if normalized:
            query["normalized"] = "true"
        answer = await self._send_images(images, colour, query, "*/*")
        if format == "posewire":
            return _parse(answer, _POSES)
        return _parse(answer, _COCO) if format == "coco" else _content(answer)

    async def draw(
        self,
        image: Image,
        *,
        media_type: ImageType = "image/jpeg",
        colour: Colour = "RGB",
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float | None = None,
        boxes: Boxes | None = None,
    ) -> bytes:
        """Return the upright image with everyone's skeleton on it, encoded.

        Args:
            image: as in `pose`.
            media_type: of the answer, "image/jpeg" or "image/png".
            colour: as in `pose`.
            max_people: as in `pose`.
            min_detection_score: as in `pose`.
            min_keypoint_score: 0..1; keypoints below it are not drawn; None: the service's own threshold.
            boxes: as in `pose`.

        Raises:
            The errors of `pose`; NotAcceptable: the service does not draw this media type.
        """
        query = _query(max_people=max_people, min_detection_score=min_detection_score, min_keypoint_score=min_keypoint_score, boxes=boxes)
        answer = await self._send_images([image], colour, query, media_type)
        if _media_type(answer) != media_type:
            raise _unexpected(answer)
        return answer.content

    def video(
        self,
        video: Video,
        *,
        track: bool = True,
        smooth: bool = True,
        detect_every: int | None = None,
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float | None = None,
    ) -> AsyncPoseVideo:
        """Return the frames of a video: an iterator of `FrameLine`, which yields each frame as soon as the service has processed it.

        The video is read from the disk while it is sent. A busy service is asked again, as by `pose`, unless the video is a pipe.

        Args:
            video: a path, the bytes of a file, or a file open in binary mode, which is read from its present position.
            track: give each person a `track_id` that stays the same from frame to frame.
            smooth: reduce the jitter of the keypoints; only with `track`.
            detect_every: the limit of frames from one run of the detector to the next; None: the service's.
            max_people: the limit of people per frame; the best are returned.
            min_detection_score: 0..1; people below it are left out.
            min_keypoint_score: 0..1; keypoints below it are left out.

        The iteration raises the errors: `AsyncPoseVideo.__anext__` lists them.
        """
        query = _query(
            track=str(track).lower(),
            smooth=str(smooth).lower(),
            detect_every=detect_every,
            max_people=max_people,
            min_detection_score=min_detection_score,
            min_keypoint_score=min_keypoint_score,
        )

        async def send() -> httpx.Response:
            async with open_video(video) as upload:
                headers = {"Content-Type": "application/octet-stream"}
                if upload.length is not None:
                    headers["Content-Length"] = str(upload.length)

                def make_request() -> httpx.Request:
                    url, early = f"{self._url}/v1/video", EarlyAnswer()
                    content, extensions = upload.pieces(early), {"trace": early.trace}
                    return self._uploads.build_request("POST", url, params=query, headers=headers, content=content, extensions=extensions)

                return await self._send(make_request, self._uploads, retries=0 if upload.start is None else self._retries, stream=True)

        return AsyncPoseVideo(send)

    async def models(self) -> ModelsResponse:
        """Return the models that the service runs: names, checksums, inputs, keypoints, and the device.

        Raises:
            The errors of `pose` but for those of images.
        """
        return _parse(await self._send(lambda: self._http.build_request("GET", f"{self._url}/v1/models")), _MODELS)

    async def ready(self) -> bool:
        """Return True if the service would answer an image now. It is asked once; False if it cannot be reached.

        Raises:
            UnexpectedAnswer: the server is not Posewire.
        """
        try:
            answer = await self._http.get(f"{self._url}/readyz")
        except httpx.TransportError:
            return False
        if not answer.is_success and answer.status_code not in _BUSY:
            raise error_of_problem(str(answer.url), answer.status_code, answer.content, None)
        return answer.is_success

    def stream(
        self,
        *,
        track: bool = True,
        smooth: bool = True,
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float = 0.0,
    ) -> AsyncPoseStream:
        """Return a stream of frames, for `async with`; the arguments are those of the start message.

        Raises:
            BadParameter: an argument is not valid.
        """
        given = {"type": "start", "track": track, "smooth": smooth, "max_people": max_people}
        given |= {"min_detection_score": min_detection_score, "min_keypoint_score": min_keypoint_score}
        try:
            start = StartMessage.model_validate(given)
        except ValidationError as error:
            raise BadParameter(describe(error)) from None
        parts = urlsplit(f"{self._url}/v1/stream")
        url = urlunsplit(parts._replace(scheme={"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)))
        return AsyncPoseStream(url, start, self._headers, self._patience_s)

    async def _send_images(self, images: Sequence[Image], colour: Colour, query: Mapping[str, str], accept: str) -> httpx.Response:
        check_colour(colour)
        contents = [image if isinstance(image, bytes) else await asyncio.to_thread(read_image, image, colour) for image in images]
        headers = {"X-Request-Timeout-Ms": str(max(1, round(self._timeout_s * 1000))), "Accept": accept}
        url = f"{self._url}/v1/pose"
        if len(contents) == 1:
            # Unknown data is sent as JPEG: the service then reports what it found.
            headers["Content-Type"] = sniff(contents[0]) or "image/jpeg"
            return await self._send(lambda: self._http.build_request("POST", url, params=query, headers=headers, content=contents[0]))
        parts = [("image", (f"{i}", content)) for i, content in enumerate(contents)]
        return await self._send(lambda: self._http.build_request("POST", url, params=query, headers=headers, files=parts))

    async def _send(
        self,
        make_request: Callable[[], httpx.Request],
        http: httpx.AsyncClient | None = None,
        *,
        retries: int | None = None,
        stream: bool = False,
    ) -> httpx.Response:
        """Send a request until it succeeds; a busy service is asked again after the time of its `Retry-After`.

        A connection that is lost, also in the middle of a request, is retried, but for an answer that does not come in time.

        Args:
            make_request: makes the request of one attempt.
            http: the client that sends it; None: that of images.
            retries: None: those of the client.
            stream: True returns the answer before its body is read.
        """
        http = http or self._http
        pause_s = 0.5
        retries = self._retries if retries is None else retries
        for attempt in range(retries + 1):
            last, request = attempt == retries, make_request()
            try:
                answer = await http.send(request, stream=stream)
                if not answer.is_success:
                    await answer.aread()
            except httpx.TransportError as error:
                if last or isinstance(error, httpx.ReadTimeout):
                    raise ConnectionLost(f"{request.url} cannot be reached: {error or type(error).__name__}") from None
            else:
                if answer.is_success:
                    return answer
                retry_after = answer.headers.get("retry-after")
                if last or answer.status_code not in _BUSY:
                    raise error_of_problem(str(answer.url), answer.status_code, answer.content, retry_after)
                pause_s = float(whole_seconds(retry_after) or pause_s)
            await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))
            pause_s *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")


def _query(*, boxes: Boxes | None = None, **values: float | str | None) -> dict[str, str]:
    """Return the parameters that the caller gave."""
    query = {name: str(value) for name, value in values.items() if value is not None}
    return query if boxes is None else query | {"boxes": json.dumps(box_rows(boxes))}


def _media_type(answer: httpx.Response) -> str:
    content_type: str = answer.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower()


def _parse(answer: httpx.Response, adapter: TypeAdapter[M]) -> M:
    try:
        return adapter.validate_json(answer.content)
    except ValidationError:
        raise _unexpected(answer) from None


def _content(answer: httpx.Response) -> Any:
    """Return parsed JSON, a text, or bytes, as the media type says."""
    media_type = _media_type(answer)
    if media_type == "application/json" or media_type.endswith("+json"):
        try:
            return answer.json()
        except ValueError:
            raise _unexpected(answer) from None
    if media_type.startswith("text/") or media_type == "application/xml" or media_type.endswith("+xml"):
        return answer.text
    return answer.content


def _unexpected(answer: httpx.Response) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"{answer.url.copy_with(query=None)} does not answer as this version of Posewire does")
