"""The interleaved race against the peers, with a peer made up."""

import sys
from pathlib import Path

import pytest

from loadtests import sample_images
from loadtests.peers.environments import PEERS, Peer, python_of
from loadtests.peers.race import race
from loadtests.wire import request_bytes

# Answers at once with a person, or with none where the second argument says so.
SERVER = """
import sys, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self): self.answer(b"ok")
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b'{"images": [{"people": [%s]}]}' % sys.argv[2].encode())
    def answer(self, body):
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.request_queue_size = 1024
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def peer(name: str, people: str) -> Peer:
    return Peer(name, None, ("-c", SERVER, "PORT", people), "/pose", "/health", {})


async def test_servers_are_measured_in_turn_and_compared_with_posewire(tmp_path: Path) -> None:
    result = await race([peer("posewire", "1"), peer("other", "1")], 2, 0.1, None, tmp_path, tmp_path)
    [rows] = result.tables.values()
    assert [row["server"] for row in rows] == ["posewire", "other"]
    assert all(row["without 200"] == 0 for row in rows)
    assert rows[0]["Posewire is faster by"] == 1
    assert len(result.raw["other"]["rates"]) == len(result.raw["other"]["p99_ms"]) == 2
    assert all(row["people"] == 1 for row in rows)
    assert len(result.checks) == 3


async def test_a_peer_that_finds_nobody_is_no_peer(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="blind answered 200 without people"):
        await race([peer("blind", "")], 1, 0.1, None, tmp_path, tmp_path)


async def test_a_server_that_does_not_start_names_its_log(tmp_path: Path) -> None:
    broken = Peer("broken", None, ("-c", "raise SystemExit(3)"), "/", "/", {})
    with pytest.raises(RuntimeError, match=r"ended with code 3 .*broken\.log"):
        await race([broken], 1, 0.1, None, tmp_path, tmp_path)


def test_an_environment_that_is_missing_says_how_to_make_it(tmp_path: Path) -> None:
    assert python_of(None, tmp_path) == Path(sys.executable)
    with pytest.raises(FileNotFoundError, match=r"loadtests\.peers setup"):
        python_of("ray", tmp_path)


def test_every_peer_gets_the_image_as_it_takes_it() -> None:
    image = sample_images.single()
    for each in PEERS:
        request = each.request(image)
        assert request.startswith(b"POST " + each.path.encode())
        assert (image in request) != each.as_json
    assert request_bytes("/x").startswith(b"GET /x HTTP/1.1\r\n")
