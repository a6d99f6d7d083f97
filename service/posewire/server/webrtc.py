"""WHIP (RFC 9725) and WHEP: video and results over WebRTC, agreed on by HTTP."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from posewire.errors import (
    BadOffer,
    BadParameter,
    DecoderFailed,
    Draining,
    NoSuchCamera,
    NoSuchSession,
    NotAcceptable,
    NotInstalled,
    NotReady,
    Overloaded,
    PreconditionFailed,
    PreconditionRequired,
    RateLimited,
    StateUnavailable,
    TimedOut,
    TooLarge,
    TooManyStreams,
    UnsupportedMediaType,
)
from posewire.schemas.cameras import CameraName
from posewire.schemas.stream import StreamOptions
from posewire.server.bodies import arriving
from posewire.server.estimation import loaded_engine
from posewire.server.limits import client_of
from posewire.server.openapi import problems
from posewire.server.peers import PeerSession, serve_whep, serve_whip
from posewire.server.services import Services, services_of
from posewire.webrtc.offers import MAX_BYTES, Offer, check_whep, check_whip, parse_fragment, parse_offer
from posewire.webrtc.peer_process import PeerProcess, require_aiortc

router = APIRouter(tags=["webrtc"])

_SDP = "application/sdp"
_FRAGMENT = "application/trickle-ice-sdpfrag"

Camera = Annotated[CameraName, Path(description="The camera's name.")]
Session = Annotated[str, Path(max_length=64, description="The last part of the session's address.")]
Version = Annotated[str | None, Header(description="The `ETag` of the session, or *.")]

_TEXT = {"schema": {"type": "string"}}
_ANSWER: dict[str, Any] = {
    "description": "The answer to the offer (SDP).",
    "content": {_SDP: _TEXT},
    "headers": {
        "Location": {"description": "The address of the session, relative to that of the request.", "schema": {"type": "string"}},
        "ETag": {"description": "The version of the session, for `If-Match`.", "schema": {"type": "string"}},
        "Accept-Patch": {"description": "The media type of candidates.", "schema": {"type": "string"}},
    },
}
_OPENING = (
    BadOffer, BadParameter, NotAcceptable, TooLarge, UnsupportedMediaType, NotInstalled, NotReady, Draining, Overloaded, TooManyStreams,
    RateLimited, TimedOut, DecoderFailed,
)  # fmt: skip
_OFFER = {"requestBody": {"required": True, "description": "The offer (SDP).", "content": {_SDP: _TEXT}}}
_CANDIDATES = {"requestBody": {"required": True, "description": "Candidates (RFC 8840).", "content": {_FRAGMENT: _TEXT}}}
_CHANGING = (
    NoSuchSession, BadOffer, BadParameter, TooLarge, UnsupportedMediaType, PreconditionFailed, PreconditionRequired, Overloaded, TimedOut,
    DecoderFailed,
)  # fmt: skip


@router.post(
    "/v1/whip",
    status_code=201,
    operation_id="publish_video",
    summary="Send a video over WebRTC, and receive its people (WHIP)",
    response_class=Response,
    responses={201: _ANSWER, **problems(*_OPENING)},
    openapi_extra=_OFFER,
)
async def publish_video(request: Request, options: Annotated[StreamOptions, Query()]) -> Response:
    """The offer sends one video, VP8 or H.264, and has a data channel of the name `posewire`, or receives video, or both.

    The channel brings the messages of `/v1/stream`: `started`, then `result` or `error` for the newest frame, and `ended` before the
    service ends the session for a reason. A video that the client receives is its own with skeletons.
    """
    services, offer = await _offer(request)
    check_whip(offer)
    engine = loaded_engine(services)
    serve = partial(serve_whip, engine=engine, options=options, offer=offer, headers=dict(request.headers))
    return await _open(request, services, offer, serve, "whip", publishes=True)


@router.post(
    "/v1/cameras/{name}/whep",
    status_code=201,
    operation_id="watch_camera",
    summary="Receive the video of a camera with skeletons over WebRTC (WHEP)",
    response_class=Response,
    responses={201: _ANSWER, **problems(*_OPENING, NoSuchCamera, StateUnavailable)},
    openapi_extra=_OFFER,
)
async def watch_camera(request: Request, name: Camera) -> Response:
    """The offer receives one video, VP8 or H.264. A data channel of the name `posewire` brings the messages of the camera's `events`."""
    loaded_engine(services_of(request))
    watcher = services_of(request).cameras.get(name)
    services, offer = await _offer(request)
    check_whep(offer)
    serve = partial(serve_whep, watcher=watcher, connect_s=services.settings.stream_idle_s)
    return await _open(request, services, offer, serve, "whep", publishes=False)


@router.patch(
    "/v1/whip/{session_id}",
    status_code=204,
    operation_id="add_whip_candidates",
    summary="Add addresses of the client to a session (trickle ICE)",
    responses=problems(*_CHANGING),
    openapi_extra=_CANDIDATES,
)
async def add_whip_candidates(request: Request, session_id: Session, if_match: Version = None) -> Response:
    """Needs `If-Match`. ICE restarts are not supported: 422."""
    return await _add_candidates(request, session_id, if_match)


@router.patch(
    "/v1/cameras/{name}/whep/{session_id}",
    status_code=204,
    operation_id="add_whep_candidates",
    summary="Add addresses of the client to a session (trickle ICE)",
    responses=problems(*_CHANGING),
    openapi_extra=_CANDIDATES,
)
async def add_whep_candidates(request: Request, name: Camera, session_id: Session, if_match: Version = None) -> Response:  # noqa: ARG001 - of the path
    """Needs `If-Match`. ICE restarts are not supported: 422."""
    return await _add_candidates(request, session_id, if_match)


@router.delete(
    "/v1/whip/{session_id}",
    operation_id="end_whip",
    summary="End a session",
    response_class=Response,
    responses=problems(NoSuchSession, BadParameter),
)
async def end_whip(request: Request, session_id: Session) -> Response:
    """The connection to the client is closed."""
    await services_of(request).peers.end(session_id)
    return Response()


@router.delete(
    "/v1/cameras/{name}/whep/{session_id}",
    operation_id="end_whep",
    summary="End a session",
    response_class=Response,
    responses=problems(NoSuchSession, BadParameter),
)
async def end_whep(request: Request, name: Camera, session_id: Session) -> Response:  # noqa: ARG001 - of the path
    """The connection to the client is closed."""
    await services_of(request).peers.end(session_id)
    return Response()


async def _offer(request: Request) -> tuple[Services, Offer]:
    """Read the offer of a request for a session."""
    services = services_of(request)
    require_aiortc()
    if services.draining:
        raise Draining
    services.peers.check_room()
    services.rate_limit.charge(request, 1)
    return services, parse_offer(await _body(services, request, _SDP))


async def _body(services: Services, request: Request, media_type: str) -> bytes:
    given = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if given != media_type:
        raise UnsupportedMediaType(f"{given or 'a body without a media type'} is not supported: send {media_type}")
    with services.body_bytes.enter(client_of(request)) as held:
        return b"".join([piece async for piece in arriving(request, MAX_BYTES, held)])


async def _start(services: Services, offer: Offer, *, publishes: bool) -> PeerProcess:
    settings = services.settings
    return await PeerProcess.start(offer, publishes=publishes, max_pixels=settings.stream_max_pixels, servers=settings.ice_servers)


def _enter(services: Services, request: Request, session: PeerSession, stack: AsyncExitStack) -> None:
    stack.enter_context(services.streams.enter(session, client_of(request)))


async def _open(
    request: Request, services: Services, offer: Offer, serve: Callable[[PeerProcess], Awaitable[None]], path: str, *, publishes: bool
) -> Response:
    """Open a session, and return the answer with its address, which is relative to that of the request."""
    session, answer = await services.peers.open(
        partial(_start, services, offer, publishes=publishes), partial(_enter, services, request), serve, offer, services.metrics
    )
    headers = {"Location": f"{path}/{session.id}", "ETag": session.etag, "Accept-Patch": _FRAGMENT, "Cache-Control": "no-store"}
    return Response(answer, 201, headers, _SDP)


async def _add_candidates(request: Request, session_id: str, if_match: str | None) -> Response:
    services = services_of(request)
    session = services.peers.get(session_id)
    if if_match is None:
        raise PreconditionRequired("the request needs If-Match, with the ETag of the session or *")
    if if_match.strip() not in (session.etag, "*"):
        raise PreconditionFailed("the session has another ETag: ICE was not restarted here")
    candidates = parse_fragment(await _body(services, request, _FRAGMENT), session.offer.username)
    if session.peer is not None:
        await session.peer.add(candidates)
    return Response(status_code=204)
