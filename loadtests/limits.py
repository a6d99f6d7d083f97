"""The service against the machine: saturation over HTTP and a lone request, each beside the bare pipeline."""

import os
import re
import socket
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

from loadtests import sample_images
from loadtests.bare import bare_cores
from loadtests.generator import RequestOf, closed_loop, in_turn
from loadtests.outcomes import percentiles_ms, ratio
from loadtests.report import Result
from loadtests.scenarios import BUSY_CLIENTS, Bench, pose_request
from posewire import PosePipeline

# Many short rounds: a shared host's speed changes by a third within seconds, and what is compared must see the same of it. Slices of
# half a second tell a ratio four times as exactly as those of two seconds that take as long together.
_ROUNDS = 60
_SLICE = 0.05  # of a stretch
_RAMP_S = 0.1  # in which connections are opened and the queue fills
_BLOCK = 10  # requests, then as many bare runs
_BLOCKS = 40
# Status, length and body of an answer, of what has arrived of it: http.client takes a tenth of a millisecond more.
_ANSWER = re.compile(rb"HTTP/1\.1 (\d+).*?\r\ncontent-length: (\d+)\r\n(?:.*?\r\n)?\r\n(.*)", re.DOTALL | re.IGNORECASE)


async def saturation(bench: Bench) -> Result:
    """Images a second of the bare pipeline on every core, and of the service over HTTP, in turn."""
    image = sample_images.single()
    request_of = in_turn([pose_request(image, deadline_s=10)])
    slice_s = _SLICE * bench.seconds
    served, generator = [], []
    with bare_cores(len(os.sched_getaffinity(0)), [image]) as cores:
        await bench.busy(request_of, seconds=2)
        bare = [cores.rate(slice_s)]
        for _ in range(_ROUNDS):
            # Not `metered`, which looks at the server's memory meanwhile: on one of the cores that are measured.
            started, before = time.perf_counter(), time.process_time()
            served.append(await _served_rate(bench, request_of, slice_s))
            generator.append((time.process_time() - before) / (time.perf_counter() - started) / (os.cpu_count() or 1))
            bare.append(cores.rate(slice_s))
    found = ratio(served, [(one + next_one) / 2 for one, next_one in pairwise(bare)])
    result = Result("saturation", "Images a second of the service over HTTP against the bare pipeline, one process a core, no HTTP.")
    result.tables["Saturation"] = [
        {
            "bare images/s": round(statistics.median(bare), 1),
            f"served images/s ({BUSY_CLIENTS} clients)": round(statistics.median(served), 1),
            "ratio": found["median"],
            "quartiles": f"{found['low']} to {found['high']}",
            "generator's share of the machine": round(statistics.median(generator), 4),
        }
    ]
    result.raw = {"bare": bare, "served": served, "ratio": found, "generator_share": generator}
    result.checks[f"the service reaches 0.90 of the bare pipeline ({found['median']})"] = found["median"] >= 0.9
    return result


async def _served_rate(bench: Bench, request_of: RequestOf, seconds: float) -> float:
    """Good answers a second, from one answer to another: neither how it begins nor how it ends counts."""
    began = time.perf_counter()
    outcomes = await closed_loop(bench.target, BUSY_CLIENTS, _RAMP_S + seconds, request_of)
    if set(outcomes.status) != {200}:
        raise RuntimeError(f"at saturation requests were answered with {sorted(set(outcomes.status))}")
    ended = [end for end in outcomes.ended if began + _RAMP_S <= end <= began + _RAMP_S + seconds]
    return (len(ended) - 1) / (ended[-1] - ended[0])


async def overhead(bench: Bench) -> Result:
    """A lone request, and the bare pipeline on the same image, in blocks of ten in turn."""
    image = sample_images.single()
    bare = PosePipeline.load(device="cpu", threads=1)
    connection = socket.create_connection((bench.target.host, bench.target.port), timeout=30)
    request = pose_request(image)

    def lone() -> None:
        connection.sendall(request)
        answer = b""
        while not (whole := _ANSWER.fullmatch(answer)) or len(whole[3]) < int(whole[2]):
            if not (piece := connection.recv(65536)):
                raise RuntimeError("the service has closed the connection of a lone request")
            answer += piece
        if whole[1] != b"200":
            raise RuntimeError(f"a lone request was answered with {whole[1].decode()}")

    times: dict[str, list[list[float]]] = {"served": [], "bare": []}
    for block in range(-4, _BLOCKS):
        for name, run in (("served", lone), ("bare", lambda: bare(image)))[:: 1 if block % 2 else -1]:
            seconds = _timed(run)
            if block >= 0:
                times[name].append(seconds)
    connection.close()
    medians = {name: [statistics.median(block) for block in blocks] for name, blocks in times.items()}
    found = ratio(medians["served"], medians["bare"])
    result = Result("overhead", "A lone request's time over the bare pipeline's for the same image, in process and without HTTP.")
    result.tables["Overhead"] = [{"what": name, **percentiles_ms([s for block in blocks for s in block])} for name, blocks in times.items()]
    result.tables["Ratio of medians, block by block"] = [{"ratio": found["median"], "quartiles": f"{found['low']} to {found['high']}"}]
    result.raw = {"ratio": found, "medians_s": medians}
    result.checks[f"a lone request takes at most 1.15 of the bare pipeline ({found['median']})"] = found["median"] <= 1.15
    return result


def _timed(run: Callable[[], object]) -> list[float]:
    """Seconds of each of a block's runs; the first, which finds the caches full of the other's data, is left out."""
    seconds = []
    for _ in range(_BLOCK + 1):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]
