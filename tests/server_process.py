"""A real `posewire serve` process for the tests."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Server:
    """A server that listens."""

    process: subprocess.Popen[str]
    ops_port: str | None = None  # where health and metrics are, if apart
    log: list[dict[str, object]] = field(default_factory=list)  # its log entries so far
    url: str = ""
    listening: threading.Event = field(default_factory=threading.Event)
    ready: threading.Event = field(default_factory=threading.Event)

    def read_log(self) -> None:
        """Take in the log until the process ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(json.loads(line))
            found = re.search(r"running on (http://\S+)", str(self.log[-1]["message"]))
            if found and not found[1].endswith(f":{self.ops_port}"):
                self.url = found[1]
                self.listening.set()
            if self.log[-1]["message"] == "the models are ready":
                self.ready.set()
        self.listening.set()
        self.ready.set()


@contextmanager
def serve(port: str = "0", **settings: str) -> Iterator[Server]:
    """Start a server on a port ("0": a free one), wait until it listens and has loaded its models, and end it afterwards."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")}
    environment |= {f"POSEWIRE_{k.upper()}": v for k, v in settings.items()}
    with listening_server(environment, port) as server:
        yield server


@contextmanager
def listening_server(environment: Mapping[str, str], port: str = "0", *, loaded: bool = True) -> Iterator[Server]:
    """As `serve`, with the whole environment of the process; unless `loaded`, the models need not be loaded."""
    command = [sys.executable, "-m", "posewire", "serve", "--port", port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        server = Server(process, environment.get("POSEWIRE_OPS_PORT"))
        reader = threading.Thread(target=server.read_log)
        reader.start()
        try:
            assert server.listening.wait(60), "the server does not start"
            assert not loaded or server.ready.wait(60), "the models are not loaded"
            assert server.url, f"the server ended: {server.log}"
            yield server
        finally:
            process.kill()
            reader.join()
