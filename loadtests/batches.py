"""`posewire batch` against what the service can do, alone and on Ray, and a long run that is killed in the middle."""

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import psutil
import pyarrow.parquet as pq

from loadtests import pictures
from loadtests.generator import closed_loop, in_turn
from loadtests.outcomes import ratio
from loadtests.processes import ROOT, Server, posewire
from loadtests.report import Plot, Result, Row
from loadtests.scenarios import BUSY_CLIENTS, pose_request
from loadtests.wire import Target
from posewire.types import UInt8Array

IMAGES: Final = 50_000

_ROUNDS: Final = 5
_SLICE: Final = (1000, 2000)  # images of one measurement: a tenth of all, but not fewer and not more
_PARTS: Final = 20  # shards of a measurement: its rate is from the first to the last
_SHARD: Final = 500  # images of a shard of the long run
_WORKERS: Final = 2
_SAMPLE_S: Final = 0.5
_BURST_S: Final = 0.5
_QUALITY: Final = 85
_FLAT: Final = 1.1  # memory at the end over memory at the beginning


@dataclass(slots=True)
class Memory:
    """Resident memory of a process and all below it, MiB, twice a second, from its first shard on."""

    seconds: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The median of the last fifth over that of the first fifth."""
        fifth = max(1, len(self.mib) // 5)
        return round(statistics.median(self.mib[-fifth:]) / statistics.median(self.mib[:fifth]), 3)


async def batch(out: Path, images: int, port: int) -> Result:
    """Measure rates side by side, then process all images with a kill -9 in the middle.

    Args:
        out: folder; its content is replaced.
        images: of the long run, at least 100.
        port: for the service.
    """
    archive, part = out / "images.tar", out / "part.tar"
    some = min(max(images // 10, _SLICE[0]), _SLICE[1])
    await asyncio.to_thread(_empty, out)
    await asyncio.to_thread(write_images, archive, images)
    await asyncio.to_thread(write_images, part, some)
    result = Result("batch", f"`posewire batch` on {images} images, alone and on Ray, and the service on the same images, in turn.")
    result.raw["bytes"] = archive.stat().st_size
    await _rates(result, out, part, some, port)
    await asyncio.to_thread(_long_run, result, out, archive, images)
    for path in (archive, part):
        path.unlink()
    return result


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def write_images(path: Path, count: int) -> None:
    """Write a tar file of JPEG images: the astronaut, cut, scaled, mirrored, turned and made lighter or darker, each by its number."""
    picture = np.asarray(cv2.imread(str(pictures.ASTRONAUT)), np.uint8)
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            content = _variation(picture, number)
            info = tarfile.TarInfo(f"{number // 1000:03}/{number:06}.jpg")
            info.size = len(content)
            archive.addfile(info, BytesIO(content))


def _variation(picture: UInt8Array, number: int) -> bytes:
    rng = np.random.default_rng(number)
    size, side = int(rng.integers(320, 641)), int(rng.integers(340, 513))
    x, y = rng.integers(0, 513 - side, 2)
    turn = cv2.getRotationMatrix2D((x + side / 2, y + side / 2), float(rng.normal(0, 6)), size / side)
    move = np.array([[0, 0, size / 2 - x - side / 2], [0, 0, size / 2 - y - side / 2]])
    pixels = cv2.warpAffine(picture, turn + move, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    pixels = cv2.convertScaleAbs(pixels, alpha=float(rng.uniform(0.7, 1.2)), beta=float(rng.uniform(-15, 15)))
    mirrored = pixels[:, ::-1] if number % 2 else pixels
    return bytes(cv2.imencode(".jpg", np.ascontiguousarray(mirrored), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


async def _rates(result: Result, out: Path, part: Path, images: int, port: int) -> None:
    """Images a second of the service, of `batch` and of `batch --ray`, one after the other in each round; who waits is stopped."""
    with tarfile.open(part) as archive:
        requests = [pose_request(file.read(), deadline_s=10) for info in archive if (file := archive.extractfile(info))]
    kinds = ["served", "batch", *(["Ray"] if importlib.util.find_spec("ray") else [])]
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with posewire(out, port) as server:
        for number in range(_ROUNDS):
            for kind in kinds[:: 1 if number % 2 else -1]:
                if kind == "served":
                    rates[kind].append(await _served_rate(server, requests))
                    continue
                server.signal(signal.SIGSTOP)
                ray = ["--ray", "local"] if kind == "Ray" else []
                rates[kind].append(await asyncio.to_thread(_batch_rate, part, out / "rate", images // _PARTS, ray))
                server.signal(signal.SIGCONT)
    found = {kind: ratio(rates[kind], rates["served"]) for kind in kinds[1:]}
    result.tables["Images a second"] = [
        {
            "what": kind,
            "images/s": round(statistics.median(rates[kind]), 1),
            "of the service": found[kind]["median"] if kind in found else None,
            "quartiles": f"{found[kind]['low']} to {found[kind]['high']}" if kind in found else None,
        }
        for kind in kinds
    ]
    result.raw |= {"rates": rates, "ratios": found}
    for kind, one in found.items():
        result.checks[f"{kind} reaches 0.95 of the service at saturation ({one['median']})"] = one["median"] >= 0.95


async def _served_rate(server: Server, requests: Sequence[bytes]) -> float:
    target = Target.of(server.url)
    await closed_loop(target, BUSY_CLIENTS, 1.0, in_turn(requests))
    seconds = max(2.0, min(20.0, len(requests) / 50))
    started = time.perf_counter()
    outcomes = await closed_loop(target, BUSY_CLIENTS, seconds, in_turn(requests))
    if set(outcomes.status) != {200}:
        raise RuntimeError(f"at saturation requests were answered with {sorted(set(outcomes.status))}")
    return len(outcomes.status) / (max(outcomes.ended) - started)


def _batch_rate(archive: Path, out: Path, shard: int, options: Sequence[str]) -> float:
    """Images a second from the first shard to the last: loading the models does not count."""
    shutil.rmtree(out, ignore_errors=True)
    with _running(archive, out, shard, out.with_suffix(".log"), options) as process:
        code = process.wait()
    if code:
        raise RuntimeError(f"posewire batch ended with {code}; see {out.with_suffix('.log')}")
    shards = sorted((out / "results").glob("*.parquet"), key=lambda path: path.stat().st_mtime)
    return steady_rate([(path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in shards])


def steady_rate(shards: Sequence[tuple[float, int]]) -> float:
    """Images a second from the first shards to the last one.

    The shards that come within half a second of the first one are the beginning: actors of Ray return their first blocks together.

    Args:
        shards: the time at which each was written, seconds, and its images, in the order of the times.
    """
    first = shards[0][0]
    begun = max(at for at, _ in shards if at <= first + _BURST_S)
    ended = shards[-1][0]
    if ended == begun:
        raise ValueError("all shards were written together: too few images for a rate")
    return sum(images for at, images in shards if at > begun) / (ended - begun)


@contextmanager
def _running(archive: Path, out: Path, shard: int, log: Path, options: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "posewire", "batch", str(archive), "--out", str(out), "--shard-images", str(shard)]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")}
    variables |= {"PYTHONPATH": f"{ROOT / 'service'}{os.pathsep}{ROOT}"}
    command += ["--workers", str(_WORKERS), *options] if options else []
    with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=file, env=variables) as process:
        try:
            yield process
        finally:
            process.kill()


def _long_run(result: Result, out: Path, archive: Path, images: int) -> None:
    """All images, with a kill -9 when half of them are written, and with the memory of both halves."""
    results = out / "all"
    shard = max(1, min(_SHARD, images // 20))
    begun = time.monotonic()
    rows: list[Row] = []
    for name, until in (("until kill -9", images // 2), ("after it", images + 1)):
        started = time.monotonic()
        before = _images(results)
        memory = _watched(archive, results, shard, out / "all.log", until)
        seconds, now = time.monotonic() - started, _images(results)
        rows.append(
            {
                "run": name,
                "images": now - before,
                "seconds": round(seconds, 1),
                "images/s": round((now - before) / seconds, 1),
                "memory MiB, most": round(max(memory.mib), 1),
                "memory, end over beginning": memory.growth,
            }
        )
        result.plots.append(Plot(f"memory {name}", "seconds", "MiB", {"resident": (memory.seconds, memory.mib)}))
        result.raw[name] = {"seconds": memory.seconds, "mib": memory.mib}
    result.tables["A run with a kill -9 in the middle"] = rows
    found = Counter(image for path in (results / "results").glob("*.parquet") for image in pq.read_table(path)["image"].to_pylist())
    wanted = {f"{number // 1000:03}/{number:06}" for number in range(images)}
    result.raw["long_run_s"] = time.monotonic() - begun
    result.checks[f"nothing is lost: {len(wanted - found.keys())} images"] = found.keys() == wanted
    result.checks[f"nothing is there twice: {sum(count > 1 for count in found.values())} images"] = max(found.values()) == 1
    result.checks["the manifest has every image"] = json.loads((results / "manifest.json").read_text())["images"] == images
    result.checks[f"memory is flat: at most {_FLAT} of what it was"] = all(row["memory, end over beginning"] <= _FLAT for row in rows)


def _watched(archive: Path, out: Path, shard: int, log: Path, until: int) -> Memory:
    """Run until so many images are written, then kill; or to the end."""
    memory, started, before = Memory(), time.monotonic(), _images(out)
    with _running(archive, out, shard, log) as process:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            images = _images(out)
            if images >= until:
                process.send_signal(signal.SIGKILL)
                process.wait()
                break
            if images == before:  # the models are loaded
                time.sleep(_SAMPLE_S)
                continue
            with suppress(psutil.NoSuchProcess):
                resident = sum(one.memory_info().rss for one in [tree, *tree.children(recursive=True)])
                memory.seconds.append(round(time.monotonic() - started, 2))
                memory.mib.append(round(resident / 2**20, 1))
            time.sleep(_SAMPLE_S)
    return memory


def _images(out: Path) -> int:
    """Images in whole shards; what is not whole yet is left out."""
    count = 0
    for path in (out / "results").glob("*.parquet"):
        if path.name not in _KNOWN:
            _KNOWN[path.name] = pq.read_metadata(path).num_rows
        count += _KNOWN[path.name]
    return count


_KNOWN: dict[str, int] = {}  # rows of shards, whose names tell their content
