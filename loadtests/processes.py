"""Servers as processes of their own, and what they take: CPU time, memory, threads and open files."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
_START_S = 120.0
_STOP_S = 15.0
_WORKER = "posewire.engine.worker"  # stands in the command line of a process that runs models


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    process: psutil.Process
    url: str

    def tree(self) -> list[psutil.Process]:
        """The process and all below it."""
        with suppress(psutil.NoSuchProcess):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def workers(self) -> list[psutil.Process]:
        """The processes below it that run models, if it is Posewire."""
        found = []
        for process in self.tree()[1:]:
            with suppress(psutil.NoSuchProcess):
                if any(_WORKER in part for part in process.cmdline()):
                    found.append(process)
        return found

    def ended(self, within_s: float) -> bool:
        """Wait until the process has ended; whether it did."""
        end = time.monotonic() + within_s
        with suppress(psutil.NoSuchProcess):
            while self.process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > end:
                    return False
                time.sleep(0.05)
        return True

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of the tree so far."""
        return sum(_cpu_s(process) for process in self.tree())

    def memory_mb(self) -> float:
        """Resident memory of the tree, MiB."""
        total = 0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 2**20

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the tree: SIGSTOP and SIGCONT put it aside and take it back."""
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextmanager
def start(
    command: Sequence[str], url: str, log: Path, ready: str = "/readyz", environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a server in a session of its own, wait until `ready` answers 200, and end it and its children afterwards.

    Raises:
        RuntimeError: it ended or did not become ready within two minutes; names the log.
    """
    variables = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")}
    variables |= {"PYTHONPATH": f"{ROOT / 'service'}{os.pathsep}{ROOT}", "PYTHONUNBUFFERED": "1"} | dict(environment or {})
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=variables, cwd=ROOT, start_new_session=True)
    server = Server(psutil.Process(child.pid), url)
    try:
        _wait_until_ready(child, url + ready, log)
        yield server
    finally:
        _end(server, child)


def stand_back() -> None:
    """Let this process, which generates load, take no core from a server in the middle of its work: clients have cores of their own.

    It then runs when a core is free or the server's turn is over, 4 ms later at most; that counts as latency. Its servers are not
    like it.
    """
    os.sched_setscheduler(0, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def end_cleanly() -> None:
    """Let SIGTERM end this process as Ctrl-C does: the servers, some of them stopped, must not outlive it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def posewire(out: Path, port: int, module: str = "posewire", **settings: str) -> Iterator[Server]:
    """`posewire serve` with its defaults, or another module of ours that starts it; `settings` by name."""
    environment = {f"POSEWIRE_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", module, *(["serve"] if module == "posewire" else []), "--port", str(port)]
    with start(command, f"http://127.0.0.1:{port}", out / "server.log", environment=environment) as server:
        yield server


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if child.poll() is not None:
            raise RuntimeError(f"the server ended with code {child.returncode} before it was ready; see {log}")
        with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the server was not ready after {_START_S:g} s; see {log}")


def _end(server: Server, child: subprocess.Popen[bytes]) -> None:
    server.signal(signal.SIGCONT)
    tree = server.tree()
    child.terminate()
    _, alive = psutil.wait_procs(tree, timeout=_STOP_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()


def _cpu_s(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0


@dataclass(slots=True)
class Usage:
    """The cost of a stretch."""

    seconds: float = 0.0
    server_cores: float = 0.0  # mean cores in use by the server's tree
    generator_cores: float = 0.0  # mean cores in use by this process
    memory_mb: list[float] = field(default_factory=list)  # the server's resident memory, twice a second

    def figures(self) -> dict[str, float]:
        """For the report."""
        return {
            "server_cores": round(self.server_cores, 3),
            "generator_cores": round(self.generator_cores, 3),
            "generator_share": round(self.generator_cores / (os.cpu_count() or 1), 4),
            "memory_start_mb": round(self.memory_mb[0], 1),
            "memory_end_mb": round(self.memory_mb[-1], 1),
            "memory_max_mb": round(max(self.memory_mb), 1),
        }


@asynccontextmanager
async def metered(server: Server) -> AsyncIterator[Usage]:
    """Measure the block; the usage is complete after it."""
    usage, own = Usage(), psutil.Process()
    started, server_before, own_before = time.perf_counter(), server.cpu_s(), _cpu_s(own)

    async def sample() -> None:
        while True:
            usage.memory_mb.append(server.memory_mb())
            await asyncio.sleep(0.5)

    sampler = asyncio.create_task(sample())
    try:
        yield usage
    finally:
        sampler.cancel()
        usage.seconds = time.perf_counter() - started
        usage.server_cores = (server.cpu_s() - server_before) / usage.seconds
        usage.generator_cores = (_cpu_s(own) - own_before) / usage.seconds
        usage.memory_mb.append(server.memory_mb())
