"""The async client: sends images to `POST /v1/pose`, and opens streams."""

import asyncio
import json
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import ValidationError

from posewire.client.answers import error_of_problem, whole_seconds
from posewire.client.inputs import Boxes, Picture, box_rows, read_image
from posewire.client.stream import AsyncPoseStream
from posewire.errors import BadParameter, ConnectionLost, UnexpectedAnswer
from posewire.imaging.decode import sniff
from posewire.schemas.pose import PoseResponse, describe
from posewire.schemas.stream import StartMessage

# The service is at its limit, or a proxy in front of it does not reach it. Estimating poses changes nothing: it may be asked again.
_BUSY = (429, 502, 503)
_LONGEST_PAUSE_S = 60.0


class AsyncPoseClient:
    """An async client; an async context manager.

    Args:
        url: of the service.
        timeout_s: of one request; it is also sent to the service as the deadline.
        retries: of a request, if the service is busy (429, 502, 503), cannot be reached, or the connection is lost.
        headers: of every request and of the streams' handshakes.
        patience_s: how long a stream tries to connect before it gives up.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 10.0, retries: int = 4, headers: Mapping[str, str] | None = None, patience_s: float = 60.0
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._retries = retries
        self._headers = dict(headers or {})
        self._patience_s = patience_s
        # A little longer than the deadline, so that the service itself reports that the deadline has passed.
        self._http = httpx.AsyncClient(headers=self._headers, timeout=timeout_s + 5)

    async def __aenter__(self) -> Self:
        """Return the client; the first request connects."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def pose(
        self,
        *images: Picture,
        max_people: int | None = None,
        min_detection_score: float | None = None,
        min_keypoint_score: float | None = None,
        boxes: Boxes | None = None,
    ) -> PoseResponse:
        """Estimate the poses of everyone in the images.

        Args:
            images: encoded (JPEG, PNG, WebP or BMP) as bytes, or paths of such files, or such files open in binary mode.
            max_people: the limit of people per image; the best are returned.
            min_detection_score: 0..1; people below it are left out.
            min_keypoint_score: 0..1; keypoints below it are left out.
            boxes: (N, 4) x, y, width, height in pixels, lists or an array; the detector is skipped. Only with a single image.

        Raises:
            ServiceError: the service rejects the request or fails; Overloaded and similar errors only after the retries.
            BadParameter: the boxes are not (N, 4) numbers.
            ConnectionLost, UnexpectedAnswer: the service cannot be reached, or the server is not Posewire.
            TypeError: an image is of another type, such as an array.
            OSError: a file cannot be read.
        """
        contents = [image if isinstance(image, bytes) else await asyncio.to_thread(read_image, image) for image in images]
        params = {"max_people": max_people, "min_detection_score": min_detection_score, "min_keypoint_score": min_keypoint_score}
        query = {name: str(value) for name, value in params.items() if value is not None}
        if boxes is not None:
            query["boxes"] = json.dumps(box_rows(boxes))
        headers = {"X-Request-Timeout-Ms": str(max(1, round(self._timeout_s * 1000)))}
        url = f"{self._url}/v1/pose"
        if len(contents) == 1:
            # Unknown data is sent as JPEG: the service then reports what it found.
            headers["Content-Type"] = sniff(contents[0]) or "image/jpeg"
            request = self._http.build_request("POST", url, params=query, headers=headers, content=contents[0])
        else:
            parts = [("image", (f"{i}", content)) for i, content in enumerate(contents)]
            request = self._http.build_request("POST", url, params=query, headers=headers, files=parts)
        answer = await self._send(request)
        try:
            return PoseResponse.model_validate_json(answer.content)
        except ValidationError:
            raise UnexpectedAnswer(f"{url} does not answer as this version of Posewire does") from None

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

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Send a request until it succeeds; a busy service is asked again after the time of its `Retry-After`.

        A connection that is lost, also in the middle of a request, is retried, but for an answer that does not come in time.
        """
        pause_s = 0.5
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                answer = await self._http.send(request)
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
