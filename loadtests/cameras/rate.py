"""How many frames a second some cameras get, and how old their results are."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from loadtests.cameras.bench import FPS, PASSWORD, USER, Watched, film_of, free_port, until, with_password
from loadtests.cameras.proof import lines_of
from loadtests.processes import Server, posewire
from loadtests.report import Result, Row
from tests.rtsp.source import Film, Mount, RtspSource

_FIRST_S = 120.0
_SETTLE_S = 5.0


def rate(out: Path, counts: Sequence[int], seconds: float, video: Path) -> Result:
    """Each number of cameras against a service of its own; every camera has a path of the RTSP server, and a connection.

    Raises:
        Missing: GStreamer or the video is.
    """
    shutil.rmtree(out, ignore_errors=True)
    film = film_of(video, out)
    result = Result("cameras rate", f"Cameras that send {FPS:g} frames/s each over RTSP, for {seconds:g} s after all have begun.")
    result.shows += " The age counts from the moment at which the camera's process has decoded a frame to the message with its people"
    result.shows += " (`age_ms` in the results of a file sink). Drops are frames that were replaced by newer ones."
    result.tables["Rate"] = [_measure(out / str(count), count, seconds, film) for count in counts]
    result.checks = {"every camera had frames": all(row["min frames/s a camera"] > 0 for row in result.tables["Rate"])}
    result.raw = {"rows": result.tables["Rate"]}
    return result


def _measure(out: Path, count: int, seconds: float, film: Film) -> Row:
    names = [f"camera-{i}" for i in range(count)]
    out.mkdir(parents=True)
    source = RtspSource(free_port(), [Mount(f"/{name}", film, FPS) for name in names], out / "rtsp.log", USER, PASSWORD)
    source.start()
    settings = {"state_dir": str(out / "state"), "camera_sources": "rtsp://127.0.0.1", "camera_sinks": str(out), "max_cameras": str(count)}
    try:
        with posewire(out, free_port(), **settings) as server:
            cameras = Watched(server)
            for name in names:
                sink = {"kind": "file", "path": str(out / f"{name}.ndjson"), "max_bytes": 10**9, "send": ["result"]}
                cameras.add(name, with_password(source.url(f"/{name}")), [], [sink])
            if until(lambda: all(cameras.status(name)["frames"] for name in names), _FIRST_S, every_s=0.5) is None:
                raise RuntimeError(f"a camera has no frame after {_FIRST_S:g} s; see {out}")
            time.sleep(_SETTLE_S)
            return _stretch(out, server, cameras, names, source, seconds)
    finally:
        source.kill()


def _stretch(out: Path, server: Server, cameras: Watched, names: Sequence[str], source: RtspSource, seconds: float) -> Row:
    assert source.process is not None
    other = psutil.Process(source.process.pid)
    lines = {name: len(lines_of(out / f"{name}.ndjson")) for name in names}
    before = {name: cameras.status(name) for name in names}
    began, cpu_s, other_s = time.monotonic(), server.cpu_s(), _cpu_s(other)
    time.sleep(seconds)
    took = time.monotonic() - began
    cores, other_cores = (server.cpu_s() - cpu_s) / took, (_cpu_s(other) - other_s) / took
    after = {name: cameras.status(name) for name in names}
    cameras.close()
    messages = [line["message"] for name in names for line in lines_of(out / f"{name}.ndjson")[lines[name] :]]
    ages = np.array([message["age_ms"] for message in messages])
    each = [(after[name]["frames"] - before[name]["frames"]) / took for name in names]

    def grown(field: str) -> int:
        return sum(after[name][field] - before[name][field] for name in names)

    row = {
        "cameras": len(names),
        "frames/s": round(sum(each), 1),
        "min frames/s a camera": round(min(each), 2),
        "max frames/s a camera": round(max(each), 2),
        "age p50 ms": round(float(np.percentile(ages, 50)), 1),
        "age p95 ms": round(float(np.percentile(ages, 95)), 1),
        "dropped": grown("dropped"),
        "failed": grown("failed"),
        "reconnects": grown("reconnects"),
        "people a frame": round(float(np.mean([len(message["people"]) for message in messages])), 1),
        "service cores": round(cores, 2),
        "share of the machine": round(cores / (psutil.cpu_count() or 1), 2),
        "source cores": round(other_cores, 2),
    }
    print(json.dumps(row), flush=True)
    return row


def _cpu_s(process: psutil.Process) -> float:
    times: Any = process.cpu_times()
    return float(times.user + times.system)
