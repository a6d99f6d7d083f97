"""Session descriptions of WebRTC (SDP, RFC 8866), looked at before a process is started for them.

aiortc parses an offer, in the process of its peer. What is looked at here costs nothing, and refuses an offer that could not be answered.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from posewire.errors import BadOffer, BadParameter, NotAcceptable

MAX_BYTES: Final = 65_536

Direction: TypeAlias = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

_MAX_SECTIONS: Final = 8
_MAX_CANDIDATES: Final = 64  # a browser has about 20 on a computer with many networks
_CODEC: Final = re.compile(r"rtpmap:\d+ (vp8|h264)/90000", re.IGNORECASE)
_CODECS: Final = "VP8 or H.264"

# candidate-attribute of RFC 8839, 5.1, without its extensions.
_CANDIDATE: Final = re.compile(
    r"candidate:(?P<foundation>[A-Za-z0-9+/]{1,32}) (?P<component>\d{1,3}) (?P<transport>\w+) (?P<priority>\d{1,10})"
    r" (?P<address>\S+) (?P<port>\d{1,5}) typ (?P<kind>host|srflx|prflx|relay)( .*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Section:
    """One media section of an offer."""

    kind: str  # audio, video or application
    direction: Direction  # as the client sees it

    @property
    def sends_video(self) -> bool:
        """True if the client may send video."""
        return self.kind == "video" and self.direction in ("sendrecv", "sendonly")

    @property
    def takes_video(self) -> bool:
        """True if the client may receive video."""
        return self.kind == "video" and self.direction in ("sendrecv", "recvonly")


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer that may be answered."""

    sdp: str  # without the candidates that are not used
    sections: tuple[Section, ...]
    username: str  # the ICE username fragment

    @property
    def has_channel(self) -> bool:
        """True if the client may open data channels."""
        return any(section.kind == "application" for section in self.sections)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address at which the client may be reached (RFC 8839)."""

    foundation: str
    component: int
    priority: int
    address: str  # an IP address
    port: int
    kind: str  # host, srflx, prflx or relay
    mid: str  # the media section that it is for


def parse_offer(data: bytes) -> Offer:
    """Return an offer, without candidates of a host name (no name of a client is resolved) or of TCP.

    Raises:
        BadOffer: it is not a session description of WebRTC.
        NotAcceptable: it has more sections than are understood, or video of other codecs.
    """
    text = _text(data)
    lines = text.splitlines()
    if not lines or lines[0].strip() != "v=0":
        raise BadOffer("the body is not a session description: it must begin with v=0")
    count = sum(line.startswith("m=") for line in lines)
    if not count:
        raise BadOffer("the offer has no media section (m=)")
    if count > _MAX_SECTIONS:
        raise NotAcceptable(f"the offer has {count} media sections; at most {_MAX_SECTIONS} are answered")
    kept = [line for line in lines if _is_kept(line)]
    if sum(line.startswith("a=candidate:") for line in kept) > _MAX_CANDIDATES:
        raise BadOffer(f"the offer has more than {_MAX_CANDIDATES} candidates")
    username = _value(kept, "ice-ufrag")
    if not (username and _value(kept, "ice-pwd") and _value(kept, "fingerprint")):
        raise BadOffer("the offer needs ice-ufrag, ice-pwd and fingerprint: only WebRTC with DTLS is spoken here")
    return Offer("\r\n".join(kept) + "\r\n", tuple(_sections(kept)), username)


def check_whip(offer: Offer) -> None:
    """Check the offer of a client that sends video.

    Raises:
        NotAcceptable: it does not send one video, or its results would go nowhere.
    """
    senders = sum(section.sends_video for section in offer.sections)
    if senders != 1:
        raise NotAcceptable(f"the offer sends {senders} videos; it must send one")
    _check_takes(offer, at_most=1)
    if not offer.has_channel and not any(section.takes_video for section in offer.sections):
        raise NotAcceptable("the offer takes no results: open a data channel before the offer is made, or receive video as well")


def check_whep(offer: Offer) -> None:
    """Check the offer of a client that looks at a video.

    Raises:
        NotAcceptable: it does not receive one video.
    """
    if not any(section.takes_video for section in offer.sections):
        raise NotAcceptable("the offer receives no video")
    _check_takes(offer, at_most=1)


def parse_fragment(data: bytes, username: str) -> tuple[Candidate, ...]:
    """Return the candidates of a trickled fragment (RFC 8840), of which only those with an IP address and UDP are used.

    Args:
        data: the body of a PATCH.
        username: the ICE username fragment of the offer.

    Raises:
        BadOffer: it is not a fragment.
        BadParameter: it restarts ICE, which is not supported.
    """
    lines = _text(data).splitlines()
    given = _value(lines, "ice-ufrag")
    if given is not None and given != username:
        raise BadParameter("ICE restarts are not supported; end the session, and send a new offer")
    found: list[Candidate] = []
    mid: str | None = None
    for line in lines:
        if line.startswith("a=mid:"):
            mid = line.removeprefix("a=mid:").strip()
        elif line.startswith("a=candidate:") and (parts := _usable(line)):
            if mid is None:
                raise BadOffer("a candidate has no a=mid before it, which says the media section")
            priority, port, component = int(parts["priority"]), int(parts["port"]), int(parts["component"])
            found.append(Candidate(parts["foundation"], component, priority, parts["address"], port, parts["kind"].lower(), mid))
    if len(found) > _MAX_CANDIDATES:
        raise BadOffer(f"the fragment has more than {_MAX_CANDIDATES} candidates")
    return tuple(found)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadOffer("the body is not text in UTF-8") from None


def _value(lines: Iterable[str], name: str) -> str | None:
    prefix = f"a={name}:"
    return next((line.removeprefix(prefix).strip() for line in lines if line.startswith(prefix)), None)


def _sections(lines: list[str]) -> Iterable[Section]:
    starts = [i for i, line in enumerate(lines) if line.startswith("m=")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        kind = lines[start].removeprefix("m=").split(" ")[0]
        if kind not in ("audio", "video", "application"):
            raise NotAcceptable(f"the offer has a media section of another kind than audio, video and application: {kind[:20]!r}")
        attributes = [line.removeprefix("a=").strip() for line in lines[start + 1 : end] if line.startswith("a=")]
        directions: tuple[Direction, ...] = ("sendonly", "recvonly", "inactive")
        direction: Direction = next((name for name in directions if name in attributes), "sendrecv")
        if kind == "video" and direction != "inactive" and not any(map(_CODEC.fullmatch, attributes)):
            raise NotAcceptable(f"the offer has a video without {_CODECS}")
        yield Section(kind, direction)


def _check_takes(offer: Offer, *, at_most: int) -> None:
    takers = sum(section.takes_video for section in offer.sections)
    if takers > at_most:
        raise NotAcceptable(f"the offer receives {takers} videos; there is one")


def _is_kept(line: str) -> bool:
    """Return False for candidates that are not used, and for the end of the candidates.

    Behind the end, checks that come from an address that is not a candidate would be too late: ICE would have failed already.
    """
    if line.startswith("a=candidate:"):
        return _usable(line) is not None
    return not line.startswith("a=end-of-candidates")


def _usable(line: str) -> re.Match[str] | None:
    """Return the parts of a candidate line with UDP and an IP address; None: it is not used."""
    found = _CANDIDATE.fullmatch(line.removeprefix("a=").strip())
    if found is None or found["transport"].lower() != "udp" or not 0 < int(found["port"]) < 65536:
        return None
    try:
        address = ipaddress.ip_address(found["address"])
    except ValueError:
        return None
    return None if address.is_multicast or address.is_unspecified else found
