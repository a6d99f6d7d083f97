"""WHIP and WHEP: real WebRTC peers against a server on a port."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest

from posewire.schemas.stream import StartedMessage
from posewire.schemas.webrtc import VideoResultMessage
from posewire.server.auth import new_key
from tests.mjpeg import running_camera
from tests.server.streaming import Listen, Listening
from tests.server.support import assert_problem, eventually
from tests.server_process import serve
from tests.videos import walk, write_video
from tests.webrtc import FRAGMENT, SDP, Film, peer

ROOT = Path(__file__).parents[2]

# What a WebRTC offer needs beside its sections; no peer stands behind it.
HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
SECURE = f"a=ice-ufrag:abcd\r\na=ice-pwd:{'p' * 22}\r\na=fingerprint:sha-256 {':'.join(['AA'] * 32)}\r\na=setup:actpass\r\na=rtcp-mux\r\n"


def video(codec: str = "VP8", direction: str = "sendonly") -> str:
    return f"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n{SECURE}a=mid:0\r\na={direction}\r\na=rtpmap:96 {codec}/90000\r\n"


CHANNEL = f"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n{SECURE}a=mid:1\r\na=sctp-port:5000\r\n"


REFUSED = [
    (b"", 400, "bad-offer"),
    (b"\xff\xfe\x00garbage", 400, "bad-offer"),
    (b"v=0\r\n", 400, "bad-offer"),
    (b"v=0\r\n" + b"m=\r\n" * 10_000, 406, "not-acceptable"),
    (HEAD.encode() + b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", 400, "bad-offer"),
    ((HEAD + video("VP9") + CHANNEL).encode(), 406, "not-acceptable"),
    ((HEAD + video()).encode(), 406, "not-acceptable"),  # its results would go nowhere
    ((HEAD + video(direction="recvonly") + CHANNEL).encode(), 406, "not-acceptable"),
    ((HEAD + video() + video() + CHANNEL).encode(), 406, "not-acceptable"),
    ((HEAD + video() + CHANNEL.replace("application", "message")).encode(), 406, "not-acceptable"),
    ((HEAD + video() + CHANNEL + "a=candidate:1 1 udp 1 192.0.2.9 9 typ host\r\n" * 100).encode(), 400, "bad-offer"),
    (HEAD.encode() + b"a=x\r\n" * 20_000, 413, "too-large"),
]

# No frame is too late on a busy machine.
PATIENT = {"stream_deadline_ms": 30_000}


@pytest.fixture
async def server(listen: Listen) -> Listening:
    return await listen(**PATIENT)


@pytest.fixture
async def http(server: Listening) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server) as client:
        yield client


def client_of(server: Listening) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, timeout=60)


def peers() -> list[psutil.Process]:
    """The processes of peers."""
    return [process for process in psutil.Process().children() if any("posewire.webrtc.peer" in word for word in process.cmdline())]


async def until_free(server: Listening) -> None:
    """Until no session holds a slot, and no process is left."""

    async def free() -> bool:
        return server.metric("posewire_streams_active") == 0 and not peers()

    await eventually(free)


async def test_a_video_gives_the_messages_of_a_stream_and_comes_back_drawn(server: Listening, http: httpx.AsyncClient) -> None:
    async with peer(http, Film(walk()), receive=True) as client:
        answer = await client.open(max_people="1")
        assert answer.status_code == 201, answer.text
        assert answer.headers["Content-Type"] == "application/sdp"
        started = await client.message()
        results = [VideoResultMessage.model_validate(await client.message("result")) for _ in range(8)]
        image = await client.image()
    assert StartedMessage.model_validate(started).limits.max_people == 1
    seqs, times = [result.seq for result in results], [result.pts_s for result in results]
    assert seqs == sorted(set(seqs))
    assert [b.seq - a.seq - 1 for a, b in pairwise(results)] == [result.dropped for result in results[1:]]
    assert times == pytest.approx([seq / 10 for seq in seqs], abs=0.001)  # ten frames a second
    assert [len(result.people) for result in results] == [1] * 8
    assert len({person.track_id for result in results for person in result.people}) == 1
    assert all(0 < result.age_ms < server.services.settings.stream_deadline_ms for result in results)
    assert (results[0].width, results[0].height) == (320, 320) == (image.width, image.height)
    drawn = image.to_ndarray(format="rgb24").astype(int)
    sent = min((abs(drawn - frame.astype(int)) for frame in walk()), key=lambda difference: difference.mean())
    assert (sent.max(axis=2) > 100).sum() > 100  # the skeleton
    assert server.metric("posewire_frames_received_total") >= len(results)
    await until_free(server)


async def test_a_session_ends_when_it_is_deleted(server: Listening, http: httpx.AsyncClient) -> None:
    async with peer(http, Film(walk())) as client:
        await client.open()
        await client.message("result")
        assert (await http.get(str(client.address))).status_code == 405
        assert (await http.delete(str(client.address))).status_code == 200
        async with asyncio.timeout(60):
            await client.closed.wait()
        assert_problem(await http.delete(str(client.address)), 404, "no-such-session")
        assert peers() == []
        assert server.metric("posewire_streams_active") == 0


async def test_trickled_candidates_are_taken(http: httpx.AsyncClient) -> None:
    async with peer(http, Film(walk())) as client:
        offer = await client.offer()
        lines = [line for line in offer.splitlines() if not line.startswith(("a=candidate", "a=end-of-candidates"))]
        answer = await client.open(offer="\r\n".join(lines) + "\r\n")
        assert answer.status_code == 201, answer.text
        candidates = "\r\n".join(["m=video 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", *_lines(offer, "a=candidate")]) + "\r\n"

        async def patch(content: str, **headers: str) -> httpx.Response:
            return await http.patch(str(client.address), content=content, headers=FRAGMENT | headers)

        tag = answer.headers["ETag"]
        assert_problem(await patch(candidates), 428, "precondition-required")
        assert_problem(await patch(candidates, **{"If-Match": '"other"'}), 412, "precondition-failed")
        assert_problem(await patch("a=ice-ufrag:other\r\na=ice-pwd:x\r\n", **{"If-Match": tag}), 422, "bad-parameter", "restart")
        assert_problem(await patch(candidates.replace("a=mid:0\r\n", ""), **{"If-Match": tag}), 400, "bad-offer", "a=mid")
        assert_problem(await patch(candidates, **{"If-Match": tag, "Content-Type": "text/plain"}), 415, "unsupported-media-type")
        assert (await patch(candidates, **{"If-Match": tag})).status_code == 204
        await client.message("result")
    assert_problem(await http.patch("/v1/whip/none", content=candidates, headers=FRAGMENT | {"If-Match": "*"}), 404, "no-such-session")


def _lines(text: str, prefix: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(prefix)]


async def test_an_offer_that_cannot_be_answered_starts_no_process(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/whip")).status_code == 405  # the connection is open now
    before = psutil.Process().num_fds()
    for content, status, slug in REFUSED:
        assert_problem(await http.post("/v1/whip", content=content, headers=SDP), status, slug)
        assert peers() == []
    assert psutil.Process().num_fds() <= before + 2  # the connection of HTTP itself


async def test_an_offer_that_only_its_process_can_refuse_leaves_nothing(server: Listening, http: httpx.AsyncClient) -> None:
    broken = (HEAD + video().replace("a=mid:0", "a=extmap:x y") + CHANNEL).replace("sctp-port:5000", "sctp-port:many")
    assert_problem(await http.post("/v1/whip", content=broken, headers=SDP), 400, "bad-offer")
    await until_free(server)
    assert_problem(await http.post("/v1/whip", content=broken, headers={"Content-Type": "text/plain"}), 415, "unsupported-media-type")
    assert_problem(await http.post("/v1/whip?max_people=0", content=broken, headers=SDP), 422, "bad-parameter", "max_people")
    assert_problem(await http.post("/v1/whip?colour=red", content=broken, headers=SDP), 422, "bad-parameter", "colour")
    assert (await http.put("/v1/whip", content=broken, headers=SDP)).status_code == 405


async def test_sessions_are_limited_and_end_when_nobody_connects(listen: Listen) -> None:
    server = await listen(**PATIENT, max_webrtc_sessions=1, stream_idle_s=2)
    offer = HEAD + video() + CHANNEL
    async with client_of(server) as http:
        assert (await http.post("/v1/whip", content=offer, headers=SDP)).status_code == 201
        refused = await http.post("/v1/whip", content=offer, headers=SDP)
        assert_problem(refused, 503, "overloaded", "1 WebRTC sessions")
        assert refused.headers["Retry-After"] == "1"
        await until_free(server)
        assert server.metric("posewire_rejections_total", reason="timed-out") == 1
        assert (await http.post("/v1/whip", content=offer, headers=SDP)).status_code == 201
    server = await listen(**PATIENT, max_streams_per_client=1)
    async with client_of(server) as http, server.stream():
        assert_problem(await http.post("/v1/whip", content=offer, headers=SDP), 429, "too-many-streams")


async def test_a_key_is_needed_where_the_service_needs_one(listen: Listen, tmp_path: Path) -> None:
    key, line = new_key("camera")
    (tmp_path / "keys").write_text(line)
    server = await listen(**PATIENT, api_keys_file=tmp_path / "keys")
    async with client_of(server) as http:
        async with peer(http, Film(walk())) as client:
            assert_problem(await client.open(), 401, "unauthorized")
        http.headers["Authorization"] = f"Bearer {key}"
        async with peer(http, Film(walk())) as client:
            assert (await client.open()).status_code == 201
            await client.message("result")


async def test_a_frame_that_is_too_large_ends_the_session_and_says_why(listen: Listen) -> None:
    server = await listen(**PATIENT, stream_max_pixels=100_000)
    async with client_of(server) as http, peer(http, Film(walk())) as client:
        await client.open()
        problem = (await client.message("ended"))["problem"]
        assert (problem["status"], problem["type"]) == (413, "urn:posewire:problem:too-large")
        assert "320 x 320" in problem["detail"]
        await until_free(server)


async def test_a_peer_that_is_killed_leaves_nothing(listen: Listen, tmp_path: Path) -> None:
    server = await listen(**PATIENT, stream_idle_s=3)
    path = write_video(tmp_path / "video.mp4", walk(200))
    command = [sys.executable, str(ROOT / "examples" / "whip_client.py"), str(path), "--url", server.url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert b"people" in await process.stdout.readline()
    process.kill()
    await process.wait()
    await until_free(server)


async def test_a_crash_of_a_peers_process_ends_its_session_alone(server: Listening, http: httpx.AsyncClient) -> None:
    async with peer(http, Film(walk())) as first, peer(http, Film(walk())) as second:
        await first.open()
        await first.message("result")
        [process] = peers()
        await second.open()
        await second.message("result")
        process.kill()

        async def one_is_left() -> bool:
            return server.metric("posewire_streams_active") == 1

        await eventually(one_is_left)
        await second.message("result")
        assert_problem(await http.delete(str(first.address)), 404, "no-such-session")
        assert server.metric("posewire_rejections_total", reason="decoder-failed") == 1


async def test_a_camera_is_shown_over_whep(listen: Listen, tmp_path: Path) -> None:
    server = await listen(**PATIENT, state_dir=tmp_path, camera_sources="http://127.0.0.0/8")
    with running_camera(frames=100_000) as camera:
        async with client_of(server) as http:
            assert (await http.post("/v1/cameras", json={"name": "door", "source": camera.url})).status_code == 201
            async with peer(http, receive=True) as client:
                answer = await client.open("/v1/cameras/door/whep")
                assert answer.status_code == 201, answer.text
                assert client.address.path.startswith("/v1/cameras/door/whep/")
                results = [await client.message("frame") for _ in range(3)]
                assert [len(result["people"]) for result in results] == [1, 1, 1]
                image = await client.image()
                assert (image.width, image.height) == (320, 320)
                assert (await http.delete(str(client.address))).status_code == 200
                assert peers() == []
            async with peer(http, receive=True) as client:
                await client.open("/v1/cameras/door/whep")
                await client.message("frame")
                assert (await http.delete("/v1/cameras/door")).status_code == 204
                assert (await client.message("ended"))["problem"]["type"] == "urn:posewire:problem:no-such-camera"
            offer = HEAD + video(direction="recvonly")
            assert_problem(await http.post("/v1/cameras/none/whep", content=offer, headers=SDP), 404, "no-such-camera")
    await until_free(server)


async def test_sigterm_tells_the_peer_and_ends_in_time() -> None:
    with serve(workers="1", drain_s="0.2") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http, peer(http, Film(walk())) as client:
            await client.open()
            await client.message("result")
            children = psutil.Process(server.process.pid).children(recursive=True)
            server.process.send_signal(signal.SIGTERM)
            assert (await client.message("ended"))["problem"]["type"] == "urn:posewire:problem:draining"
            assert await asyncio.to_thread(server.process.wait, 60) == 0
    assert psutil.wait_procs(children, timeout=30)[1] == []


async def test_without_aiortc_the_answer_says_what_to_install(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiortc", None)
    answer = await http.post("/v1/whip", content=HEAD + video() + CHANNEL, headers=SDP)
    assert_problem(answer, 501, "not-installed", "pip install 'posewire[webrtc]'")
