"""The real Prometheus scrapes the running service under load; whatever dashboards, rules and autoscalers ask has an answer."""

import json
import math
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from websockets.sync.client import connect

from tests.deploy.tools import ROOT, RULES, needs, rules, run
from tests.sample_images import ASTRONAUT
from tests.server_process import serve

pytestmark = needs("prometheus")

# What has no value where nothing goes wrong.
QUIET = re.compile(r"posewire_inference_failures")


@dataclass(frozen=True, slots=True)
class Watched:
    """A service under load and the Prometheus that scrapes it."""

    service: str  # addresses
    ops: str
    prometheus: str

    def ask(self, query: str) -> list[float]:
        """The values of an instant query."""
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": query}).raise_for_status().json()
        assert answer["status"] == "success", answer
        return [float(sample["value"][1]) for sample in answer["data"]["result"]]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus that scrapes `target` and evaluates the rules every second; its address."""
    groups = yaml.safe_load(RULES.read_text())
    for group in groups["groups"]:
        group["interval"] = "1s"
    (folder / "rules.yml").write_text(yaml.safe_dump(groups))
    labels = {"namespace": "posewire", "pod": "posewire-0"}  # as the operator adds them
    scrape = {"job_name": "posewire", "static_configs": [{"targets": [target], "labels": labels}]}
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["rules.yml"], "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log, subprocess.Popen(["prometheus", *options], stdout=log, stderr=log) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()


def ask_for_poses(address: str, over: threading.Event) -> None:
    """Images, and now and then what is none."""
    image = ASTRONAUT.read_bytes()
    with httpx.Client(base_url=address, timeout=30) as client:
        while not over.is_set():
            client.post("/v1/pose", content=image, headers={"Content-Type": "image/jpeg"})
            client.post("/v1/pose", content=b"", headers={"Content-Type": "image/jpeg"})
            client.post("/v1/pose", content=image, headers={"Content-Type": "image/jpeg", "X-Request-Timeout-Ms": "1"})


def stream(address: str, over: threading.Event) -> None:
    """Frames over the WebSocket, each result acknowledged."""
    image = ASTRONAUT.read_bytes()
    with connect(f"{address.replace('http', 'ws', 1)}/v1/stream") as socket_:
        socket_.send(json.dumps({"type": "start"}))
        socket_.recv()
        while not over.is_set():
            socket_.send(image)
            socket_.send(image)
            message = json.loads(socket_.recv())
            if message["type"] == "result":
                socket_.send(json.dumps({"type": "ack", "seq": message["seq"]}))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Both, after some seconds of images and frames, which go on."""
    port = free_port()
    over = threading.Event()
    with serve(ops_port=str(port)) as server, prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{port}") as address:
        load = [threading.Thread(target=work, args=(server.url, over)) for work in (ask_for_poses, ask_for_poses, stream)]
        for thread in load:
            thread.start()
        try:
            watched = Watched(server.url, f"http://127.0.0.1:{port}", address)
            wait_for_rules(watched)
            yield watched
        finally:
            over.set()
            for thread in load:
                thread.join()


def wait_for_rules(watched: Watched) -> None:
    """Until the slowest rule, over the rates of several scrapes, has been evaluated."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if watched.ask("count_over_time(posewire:pose_slow:ratio_rate1d[5m]) > 3"):
                return
        except httpx.HTTPError:
            pass  # it starts, and answers 503 at first
        time.sleep(0.5)
    raise AssertionError("Prometheus has no data of the service")


def panels() -> list[tuple[str, str]]:
    """Every query of every dashboard, as Grafana would send it, after where it stands."""
    found = []
    for path in sorted((ROOT / "monitoring/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "10s").replace("$job", "posewire").replace("$instance", ".*")
                assert "$" not in query
                found.append((f"{path.stem}: {panel['title']}", query))
    return found


def autoscalers() -> list[tuple[str, str]]:
    """Every query of the autoscalers."""
    triggers = yaml.safe_load((ROOT / "k8s/components/keda/scaledobject.yaml").read_text())["spec"]["triggers"]
    found = [(f"KEDA: {trigger['name']}", trigger["metadata"]["query"]) for trigger in triggers]
    hpa = yaml.safe_load((ROOT / "k8s/components/hpa/hpa.yaml").read_text())["spec"]["metrics"]
    adapter = yaml.safe_load((ROOT / "k8s/components/hpa/adapter-rules.yaml").read_text())["rules"]
    assert [metric["pods"]["metric"]["name"] for metric in hpa] == [rule["name"]["as"] for rule in adapter]
    for rule in adapter:
        series = rule["seriesQuery"].split("{")[0]
        query = rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.GroupBy>>", "pod")
        found.append((f"HPA: {rule['name']['as']}", query.replace("<<.LabelMatchers>>", 'namespace="posewire",pod=~"posewire-0"')))
    return found


def test_every_panel_has_data_under_load(watched: Watched) -> None:
    queries = panels()
    assert len(queries) > 40
    values = {(where, query): watched.ask(query) for where, query in queries}
    assert [key for key, found in values.items() if not found] == []
    assert [key for key, found in values.items() if all(map(math.isnan, found)) and not QUIET.search(key[1])] == []


def test_every_autoscaler_gets_one_value(watched: Watched) -> None:
    for where, query in autoscalers():
        found = watched.ask(query)
        assert len(found) == 1, where
        assert found[0] > 0, where


def test_every_recording_rule_has_data_and_no_replica_is_reported_ill(watched: Watched) -> None:
    recorded = [rule["record"] for rule in rules() if "record" in rule]
    assert [name for name in recorded if not watched.ask(name)] == []
    answer: dict[str, Any] = httpx.get(f"{watched.prometheus}/api/v1/rules").json()
    assert [rule for group in answer["data"]["groups"] for rule in group["rules"] if rule["health"] != "ok"] == []
    assert watched.ask('ALERTS{alertname=~"PosewireNotServing|PosewireScrapeFails|PosewireRestartLoop|PosewireDeviceFallback"}') == []


def test_health_and_metrics_have_moved_to_their_own_port(watched: Watched) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/metrics"):
        assert httpx.get(f"{watched.ops}{path}").status_code == 200, path
        assert httpx.get(f"{watched.service}{path}").status_code == 404, path
    assert httpx.get(f"{watched.ops}/v1/models").status_code == 404


@needs("promtool")
def test_promtool_finds_no_fault_in_the_metrics(watched: Watched) -> None:
    assert run("promtool", "check", "metrics", stdin=httpx.get(f"{watched.ops}/metrics").text) == ""
