"""A camera for minutes, while its source, the broker and the service are killed again and again; afterwards no message may be missing."""

import json
import shutil
import statistics
import threading
import time
from collections.abc import Iterator, Sized
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from loadtests.cameras.bench import PASSWORD, USER, Missing, Watched, film_of, free_port, left_behind, until, with_password
from loadtests.cameras.plan import QUIET_S, Planned, plan
from loadtests.cameras.proof import Proof, lines_of, prove, spool_state
from loadtests.processes import Server, posewire
from loadtests.report import Plot, Result
from tests.rtsp.source import Mount, RtspSource
from tests.sinks.receivers import Broker, Hook
from tests.sinks.receivers import running as receiving

_CAMERA = "street"
_RETURN_S = 5.0  # promised: from the return of the source to its first frame
_WAIT_S = 120.0
_SETTLED = 1 / 30  # of the soak, after each start: until caches have their size
_LONG_ENOUGH_S = 240.0  # of a life of the service, to see whether its memory grows
_SAMPLE_S = 0.5
_MAX_GROWTH = 0.05
_RULES = [
    {"kind": "zone", "name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], "hold_s": 0.2},
    {"kind": "zone", "name": "right", "polygon": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]], "hold_s": 0.2},
    {"kind": "line", "name": "middle", "start": [0.5, 0], "end": [0.5, 1]},
]


class Subscriber:
    """Reads a broker with a session that outlives every connection."""

    def __init__(self, port: int) -> None:
        self.received: list[dict[str, Any]] = []
        self.subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="soak", protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.on_message = self._take
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 100_000
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._client.loop_start()

    def _connected(self, client: mqtt.Client, _: Any, flags: mqtt.ConnectFlags, *__: Any) -> None:
        if not flags.session_present:
            client.subscribe([(f"posewire/{_CAMERA}/event", 1), (f"posewire/{_CAMERA}/state", 1)])

    def _take(self, _: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        self.received.append(json.loads(message.payload) | {"dup": message.dup})

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


class Service:
    """The service, which is started again and again on the same state, and its memory all the while."""

    def __init__(self, out: Path, settle_s: float) -> None:
        self._out = out
        self._settle_s = settle_s
        self._port = free_port()
        self._lives = 0
        self._stack = ExitStack()
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self.memory: list[tuple[float, int, float]] = []  # seconds from the start, number of the life, MiB of all its processes
        self.server: Server
        self.cameras: Watched

    def start(self) -> float:
        """Start it; return the seconds until it was ready."""
        began = time.monotonic()
        self._lives += 1
        settings = {"state_dir": str(self._out / "state"), "camera_sources": "rtsp://127.0.0.1", "camera_sinks": "*"}
        self.server = self._stack.enter_context(posewire(self._out / f"service-{self._lives}", self._port, **settings))
        self.cameras = Watched(self.server)
        self._ready = time.monotonic()
        if self._lives == 1:
            self._sampler.start()
        return self._ready - began

    def end(self, *, kill: bool) -> int:
        """End it by SIGTERM, or kill its first process alone; return how many processes were left behind."""
        self.cameras.close()
        tree = self.server.tree()
        if kill:
            self.server.process.kill()
        else:
            self.server.process.terminate()
        left = left_behind(tree)
        self._stack.close()
        return left

    def close(self) -> None:
        """End it and the measurement."""
        self._ended.set()
        if self._sampler.is_alive():
            self._sampler.join()
        self._stack.close()

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            if time.monotonic() - self._ready > self._settle_s and self.server.process.is_running():
                sample = (time.monotonic() - self._began, self._lives, self.server.memory_mb())
                if len(self.server.tree()) > 1:  # else it is being ended
                    self.memory.append(sample)


def soak(out: Path, minutes: float, seed: int, video: Path) -> Result:
    """One camera with rules and three sinks under the faults of a plan.

    Raises:
        Missing: GStreamer, Mosquitto or the video is.
    """
    if shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") is None:
        raise Missing("mosquitto is missing: apt-get install mosquitto")
    shutil.rmtree(out, ignore_errors=True)
    film = film_of(video, out)
    seconds, faults = 60 * minutes, plan(60 * minutes, seed)
    broker, hook = _broker(out), Hook()
    source = RtspSource(free_port(), [Mount("/street", film)], out / "rtsp.log", USER, PASSWORD)
    service = Service(out, _SETTLED * seconds)
    lines_path = out / "messages.ndjson"
    rows: list[dict[str, Any]] = []
    with _ended(service, source), receiving(broker), receiving(hook):
        subscriber = Subscriber(broker.port)
        if not subscriber.subscribed.wait(_WAIT_S):
            raise RuntimeError("the subscriber does not get to the broker")
        source.start()
        service.start()
        _add(service, source, broker, hook, lines_path)
        until(lambda: service.cameras.status(_CAMERA)["frames"] > 0, _WAIT_S)
        began = time.monotonic()
        for planned in faults:
            time.sleep(max(0.0, began + planned.at_s - time.monotonic()))
            hook.statuses.append(503)  # it has the message and says that it has not
            row = {"at s": round(time.monotonic() - began), **_fault(planned, service, source, broker)}
            rows.append(row)
            print(json.dumps(row), flush=True)
        time.sleep(max(QUIET_S, began + seconds - time.monotonic()))
        frames = service.cameras.status(_CAMERA)
        received: list[Sized] = [subscriber.received, hook.requests]
        # A receiver that was away is tried again after 40 seconds at most.
        until(lambda: all(len(found) >= len(lines_of(lines_path)) - 1 for found in received), 60.0, every_s=0.5)
        service.cameras.disable(_CAMERA)  # its people leave; the events are delivered
        spools = {path.name.partition("-")[2].partition("_")[0]: path for path in (out / "state" / "spools").glob("*.sqlite")}
        left = service.end(kill=False)
        lines = lines_of(lines_path)
        time.sleep(1.0)  # what the broker has still to hand over
        subscriber.close()
        deliveries = {"mqtt": subscriber.received, "webhook": hook.messages}
        proofs = {name: prove(found, lines, *spool_state(spools[name])) for name, found in deliveries.items()}
    return _result(minutes, seed, rows, proofs, lines, service, frames, left)


@contextmanager
def _ended(service: Service, source: RtspSource) -> Iterator[None]:
    try:
        yield
    finally:
        service.close()
        source.kill()


def _broker(out: Path) -> Broker:
    folder = out / "broker"
    folder.mkdir()
    return Broker(folder)


def _add(service: Service, source: RtspSource, broker: Broker, hook: Hook, lines: Path) -> None:
    send = ["event", "state"]
    sinks = [
        {"kind": "file", "path": str(lines), "max_bytes": 10**9, "send": send},
        {"kind": "mqtt", "url": f"mqtt://127.0.0.1:{broker.port}", "qos": 1, "send": send},
        {"kind": "webhook", "url": f"http://127.0.0.1:{hook.port}/in", "secret": "of the soak", "send": send},
    ]
    service.cameras.add(_CAMERA, with_password(source.url("/street")), _RULES, sinks)


def _fault(planned: Planned, service: Service, source: RtspSource, broker: Broker) -> dict[str, Any]:
    """Let a fault happen; return what it did."""
    row: dict[str, Any] = {
        "fault": planned.fault,
        "away s": None,
        "first frame s": None,
        "ready s": None,
        "processes left": None,
    }
    match planned.fault:
        case "source":
            source.kill()
            row["away s"] = round(planned.away_s, 1)
            time.sleep(planned.away_s)
            before = service.cameras.status(_CAMERA)["frames"]
            source.start()
            row["first frame s"] = _seconds(until(lambda: service.cameras.status(_CAMERA)["frames"] > before, _WAIT_S))
        case "broker":
            broker.stop()
            row["away s"] = round(planned.away_s, 1)
            time.sleep(planned.away_s)
            broker.start()
        case "sigterm" | "kill -9":
            row["processes left"] = service.end(kill=planned.fault == "kill -9")
            row["ready s"] = round(service.start(), 1)
            row["first frame s"] = _seconds(until(lambda: _frames(service) > 0, _WAIT_S))
    return row


def _frames(service: Service) -> int:
    return int(service.cameras.status(_CAMERA)["frames"])


def _seconds(found: float | None) -> float:
    return float("inf") if found is None else round(found, 2)


def _result(
    minutes: float,
    seed: int,
    rows: list[dict[str, Any]],
    proofs: dict[str, Proof],
    lines: list[dict[str, Any]],
    service: Service,
    frames: dict[str, Any],
    left: int,
) -> Result:
    returns = [row["first frame s"] for row in rows if row["fault"] == "source"]
    killed = sum(row["fault"] == "kill -9" for row in rows)
    events = sum(line["kind"] == "event" for line in lines)
    growth, within = _growth(service.memory)
    result = Result(
        "cameras soak", f"{minutes:g} minutes of one RTSP camera with rules, a file, a broker and a webhook; faults by seed {seed}."
    )
    result.tables["Faults"] = list(rows)
    result.tables["Messages"] = [
        {"sink": "file", "put": len(lines), **dict.fromkeys(list(_row(next(iter(proofs.values()))))[1:])},
        *({"sink": name, **_row(proof)} for name, proof in proofs.items()),
    ]
    result.tables["Memory"] = [
        {"growth, first to last third of the soak": round(growth, 4), **{f"in life {n}": round(g, 4) for n, g in within.items()}}
    ]
    result.tables["At the end"] = [{name: frames[name] for name in ("state", "frames", "dropped", "failed", "reconnects")}]
    result.checks = {
        f"there were events ({events}) and other messages ({len(lines) - events})": events > 10,
        **{f"{name}: in order, none lost, duplicates marked": proof.holds(killed) for name, proof in proofs.items()},
        f"frames within {_RETURN_S:g} s of each return of the source (max {max(returns)} s)": max(returns) < _RETURN_S,
        "frames after each restart": all(row["first frame s"] < _WAIT_S for row in rows if row["ready s"] is not None),
        "no process was left behind": not left and not any(row["processes left"] for row in rows),
        f"memory grows by less than {100 * _MAX_GROWTH:g} % ({100 * growth:.1f} %)": growth < _MAX_GROWTH,
        **{f"memory of life {n} grows by less than {100 * _MAX_GROWTH:g} % ({100 * g:.1f} %)": g < _MAX_GROWTH for n, g in within.items()},
    }
    result.plots = [Plot("memory", "s", "MiB", {"service": ([s for s, _, _ in service.memory], [mb for _, _, mb in service.memory])})]
    result.raw = {"faults": rows, "memory": service.memory, "messages": len(lines)}
    return result


def _row(proof: Proof) -> dict[str, Any]:
    return {
        "put": proof.put,
        "received": proof.received,
        "delivered again": proof.repeated,
        "not marked": proof.unmarked,
        "out of order": proof.out_of_order,
        "missing": proof.missing,
        "waiting": proof.waiting,
        "not as in the file": proof.beside_file,
    }


def _growth(memory: list[tuple[float, int, float]]) -> tuple[float, dict[int, float]]:
    """Growth of the median from the first third to the last: of the whole, and within each life of the service."""
    lives = {number: [mb for _, life, mb in memory if life == number] for number in sorted({life for _, life, _ in memory})}
    within = {number: _thirds(samples) for number, samples in lives.items() if len(samples) * _SAMPLE_S >= _LONG_ENOUGH_S}
    return _thirds([mb for _, _, mb in memory]), within


def _thirds(samples: list[float]) -> float:
    third = max(1, len(samples) // 3)
    return statistics.median(samples[-third:]) / statistics.median(samples[:third]) - 1
