"""`posewire batch` against what the service can do, alone and on Ray, and long runs of both that are killed in the middle."""

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

from loadtests import sample_images
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
    """Memory of a process and all below it, MiB, twice a second, from its first shard on. What they share counts once."""

    seconds: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The median of the last fifth over that of the first fifth."""
        fifth = max(1, len(self.mib) // 5)
        return round(statistics.median(self.mib[-fifth:]) / statistics.median(self.mib[:fifth]), 3)


async def batch(out: Path, images: int, port: int) -> Result:
    """Measure rates side by side, then process all images with a kill -9 in the middle, alone and on Ray.

    Args:
        out: folder; its content is replaced.
        images: of each long run, at least 100.
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
    for kind, options in _kinds().items():
        await asyncio.to_thread(_long_run, result, kind, options, out, archive, images)
    for path in (archive, part):
        path.unlink()
    return result


def _kinds() -> dict[str, list[str]]:
    """Ways to run a batch, with their options; Ray only where it is installed."""
    on_ray = {"Ray": ["--ray", "local", "--workers", str(_WORKERS)]} if importlib.util.find_spec("ray") else {}
    return {"batch": [], **on_ray}


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def write_images(path: Path, count: int) -> None:
    """Write a tar file of JPEG images: the astronaut, cut, scaled, mirrored, turned and made lighter or darker, each by its number."""
    image = np.asarray(cv2.imread(str(sample_images.ASTRONAUT)), np.uint8)
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            content = _variation(image, number)
            info = tarfile.TarInfo(f"{number // 1000:03}/{number:06}.jpg")
            info.size = len(content)
            archive.addfile(info, BytesIO(content))


def _variation(image: UInt8Array, number: int) -> bytes:
    rng = np.random.default_rng(number)
    size, side = int(rng.integers(320, 641)), int(rng.integers(340, 513))
    x, y = rng.integers(0, 513 - side, 2)
    turn = cv2.getRotationMatrix2D((x + side / 2, y + side / 2), float(rng.normal(0, 6)), size / side)
    move = np.array([[0, 0, size / 2 - x - side / 2], [0, 0, size / 2 - y - side / 2]])
    pixels = cv2.warpAffine(image, turn + move, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    pixels = cv2.convertScaleAbs(pixels, alpha=float(rng.uniform(0.7, 1.2)), beta=float(rng.uniform(-15, 15)))
    mirrored = pixels[:, ::-1] if number % 2 else pixels
    return bytes(cv2.imencode(".jpg", np.ascontiguousarray(mirrored), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


async def _rates(result: Result, out: Path, part: Path, images: int, port: int) -> None:
    """Images a second of the service, of `batch` and of `batch --ray`, one after the other in each round; who waits is stopped."""
    with tarfile.open(part) as archive:
        requests = [pose_request(file.read(), deadline_s=10) for info in archive if (file := archive.extractfile(info))]
    options = _kinds()
    kinds = ["served", *options]
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with posewire(out, port) as server:
        for number in range(_ROUNDS):
            for kind in kinds[:: 1 if number % 2 else -1]:
                if kind == "served":
                    rates[kind].append(await _served_rate(server, requests))
                    continue
                server.signal(signal.SIGSTOP)
                rates[kind].append(await asyncio.to_thread(_batch_rate, part, out / "rate", images // _PARTS, options[kind]))
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


def _batch_rate(archive: Path, out: Path, shard: int, options: list[str]) -> float:
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
def _running(archive: Path, out: Path, shard: int, log: Path, options: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "posewire", "batch", str(archive), "--out", str(out), "--shard-images", str(shard), *options]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")}
    variables |= {"PYTHONPATH": f"{ROOT / 'service'}{os.pathsep}{ROOT}"}
    with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=file, env=variables) as process:
        try:
            yield process
        finally:
            process.kill()


def _long_run(result: Result, kind: str, options: list[str], out: Path, archive: Path, images: int) -> None:
    """All images, with a kill -9 when half of them are written, and with the memory of both halves.

    On Ray, an actor is killed at each quarter too.
    """
    run = _LongRun(archive, out / f"all-{kind}", max(1, min(_SHARD, images // 20)), out / f"all-{kind}.log", options)
    begun = time.monotonic()
    rows: list[Row] = []
    for name, lose_at, until in ((f"{kind}, until kill -9", images // 4, images // 2), (f"{kind}, after it", images * 3 // 4, None)):
        started, before = time.monotonic(), run.images()
        memory, lost = run.go_on(until, lose_at if options else None)
        seconds, now = time.monotonic() - started, run.images()
        rows.append(
            {
                "run": name,
                "images": now - before,
                "seconds": round(seconds, 1),
                "images/s": round((now - before) / seconds, 1),
                "actors killed": lost,
                "memory MiB, most": round(max(memory.mib), 1),
                "memory, end over beginning": memory.growth,
            }
        )
        result.plots.append(Plot(f"memory: {name}", "seconds", "MiB", {"used": (memory.seconds, memory.mib)}))
        result.raw[name] = {"seconds": memory.seconds, "mib": memory.mib}
    result.tables[f"A run with a kill -9 in the middle: {kind}"] = rows
    found = Counter(image for path in run.shards() for image in pq.read_table(path)["image"].to_pylist())
    wanted = {f"{number // 1000:03}/{number:06}" for number in range(images)}
    result.raw[f"{kind}: long run, s"] = time.monotonic() - begun
    result.checks[f"{kind}: nothing is lost: {len(wanted - found.keys())} images"] = found.keys() == wanted
    result.checks[f"{kind}: nothing is there twice: {sum(count > 1 for count in found.values())} images"] = max(found.values()) == 1
    result.checks[f"{kind}: the manifest has every image"] = json.loads((run.out / "manifest.json").read_text())["images"] == images
    result.checks[f"{kind}: memory is flat: at most {_FLAT} of what it was"] = all(
        row["memory, end over beginning"] <= _FLAT for row in rows
    )


@dataclass(slots=True)
class _LongRun:
    archive: Path
    out: Path
    shard: int
    log: Path
    options: list[str]
    rows: dict[str, int] = field(default_factory=dict)  # of shards, whose names tell their content

    def go_on(self, until: int | None, lose_at: int | None) -> tuple[Memory, int]:
        """Run until so many images are written, then kill; or to the end. Return the memory, and how many actors were killed on the way."""
        memory, lost, started, before = Memory(), 0, time.monotonic(), self.images()
        with _running(self.archive, self.out, self.shard, self.log, self.options) as process:
            tree = psutil.Process(process.pid)
            while process.poll() is None:
                images = self.images()
                if until is not None and images >= until:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    break
                if images > before:  # the models are loaded
                    memory.seconds.append(round(time.monotonic() - started, 2))
                    memory.mib.append(round(sum(map(_proportional, [tree, *tree.children(recursive=True)])) / 2**20, 1))
                if lose_at is not None and images >= lose_at:
                    lost += _kill_an_actor(tree)
                    lose_at = None
                time.sleep(_SAMPLE_S)
        if until is None and process.returncode:
            raise RuntimeError(f"posewire batch ended with {process.returncode}; see {self.log}")
        return memory, lost

    def shards(self) -> list[Path]:
        return list((self.out / "results").glob("[0-9]*.parquet"))  # files that are being written have a dot before their name

    def images(self) -> int:
        """Images in whole shards; what is not whole yet is left out."""
        for path in self.shards():
            if path.name not in self.rows:
                self.rows[path.name] = pq.read_metadata(path).num_rows
        return sum(self.rows.values())


def _proportional(process: psutil.Process) -> int:
    """Bytes of a process; what it shares with others counts in part. None if it has just ended."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_full_info().pss)
    return 0


def _kill_an_actor(tree: psutil.Process) -> int:
    for child in tree.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "PoseActor" in " ".join(child.cmdline()):
                child.kill()
                return 1
    return 0
