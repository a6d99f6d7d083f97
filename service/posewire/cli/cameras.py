"""`posewire cameras`: add, list and remove the cameras of a running service."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from posewire.client.answers import error_of_problem
from posewire.errors import PosewireError, ServiceError
from posewire.files import read_plain
from posewire.schemas.cameras import CameraOut, CamerasOut

_MAX_JSON_BYTES = 10_000_000
_TIMEOUT_S = 30.0

# An API key in the arguments would be in every list of processes.
KEY_VARIABLE = "POSEWIRE_API_KEY"


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    url: str

    def request(self, method: str, path: str, body: object = None) -> bytes:
        """Return the body of the answer.

        Raises:
            PosewireError: the service does not answer, or answers with a problem.
        """
        key = os.environ.get(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        address = f"{self.url.rstrip('/')}{path}"
        try:
            answer = httpx.request(method, address, headers=headers, json=body, timeout=_TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PosewireError(f"{self.url} does not answer: {error or type(error).__name__}; is `posewire serve` running?") from None
        if answer.is_success:
            return answer.content
        refusal = error_of_problem(address, answer.status_code, answer.content, answer.headers.get("Retry-After"))
        raise PosewireError(refusal.detail) if isinstance(refusal, ServiceError) else refusal


def add_camera(service: Service, name: str, source: str, files: Mapping[str, Path | None], options: Mapping[str, object]) -> int:
    """Add a camera.

    Args:
        service: that watches it.
        name: of the camera.
        source: its address or file.
        files: JSON files of the fields `rules` and `sinks`.
        options: other fields; None: the service's default.

    Raises:
        PosewireError: a file cannot be read, or the service refuses the camera.
    """
    fields: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    fields |= {field: _json_of(path) for field, path in files.items() if path is not None}
    service.request("POST", "/v1/cameras", {"name": name, "source": source, **fields})
    print(f"{name} is watched; `posewire cameras list` shows how it is doing")
    return 0


def list_cameras(service: Service, *, as_json: bool) -> int:
    """Print a line for each camera.

    Raises:
        PosewireError: the service does not answer.
    """
    data = service.request("GET", "/v1/cameras")
    if as_json:
        print(json.dumps(json.loads(data), indent=2))
        return 0
    cameras = CamerasOut.model_validate_json(data).cameras
    if not cameras:
        print("no cameras; `posewire cameras add NAME SOURCE` adds one")
        return 0
    table = Table(box=None, pad_edge=False)
    for title in ("NAME", "STATE", "FRAMES", "DROPPED", "AGE", "PEOPLE", "SOURCE"):
        table.add_column(title, no_wrap=title != "SOURCE", overflow="fold")
    for camera in cameras:
        table.add_row(*_row(camera))
    Console(soft_wrap=False).print(table)
    return 0


def remove_camera(service: Service, name: str) -> int:
    """Remove a camera.

    Raises:
        PosewireError: there is none of this name, or the service does not answer.
    """
    service.request("DELETE", f"/v1/cameras/{name}")
    print(f"{name} is removed")
    return 0


def _row(camera: CameraOut) -> tuple[str, ...]:
    status = camera.status
    source = camera.source if status.detail is None else f"{camera.source}\n{status.detail}"
    age = "-" if status.age_s is None else f"{status.age_s:.1f} s"
    people = "-" if status.people is None else str(status.people)
    return camera.name, status.state, str(status.frames), str(status.dropped), age, people, source


def _json_of(path: Path) -> object:
    try:
        return json.loads(read_plain(path, _MAX_JSON_BYTES))
    except ValueError as error:
        raise PosewireError(f"{path} is not JSON: {error}") from None
