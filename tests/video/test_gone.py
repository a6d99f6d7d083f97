"""A client that leaves in the middle of its video, against a real server."""

import time
from pathlib import Path

import httpx

from tests.server_process import serve
from tests.videos import walk, write_video


def test_a_client_that_goes_away_frees_its_place(tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", walk(20) * 90).read_bytes()
    short = write_video(tmp_path / "short.mp4", walk(2)).read_bytes()
    headers = {"Content-Type": "video/mp4"}
    with serve(max_videos="1") as server, httpx.Client(base_url=server.url, timeout=60) as client:
        with client.stream("POST", "/v1/video", content=long, headers=headers) as answer:
            lines = answer.iter_lines()
            assert [next(lines)[:16] for _ in range(3)] == ['{"type":"video",', '{"type":"frame",', '{"type":"frame",']
            assert httpx.post(f"{server.url}/v1/video", content=short, headers=headers).status_code == 503
        until = time.monotonic() + 30  # far less than 1800 frames take
        while (again := client.post("/v1/video", content=short, headers=headers)).status_code == 503:
            assert time.monotonic() < until, "the place is still held"
        assert again.text.splitlines()[-1].startswith('{"type":"end","frames":2')
