"""The settings of the service, read once from the environment.

Every setting is an environment variable `POSEWIRE_<NAME>`; an empty one means the default. An unknown one is an error, so that a
typing error is noticed. The variables that Kubernetes sets for services whose name begins with `posewire` are ignored.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from posewire.errors import ConfigError
from posewire.types import FloatArray, PoseOptions

PREFIX = "POSEWIRE_"

_ORIGIN = r"\s*(\*|https?://[^/,\s]+)\s*"
_HOST = r"\s*((\*\.)?[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?)\s*"  # a name or an address

_ICE_SERVER = r"(stun:[^,@?\s]+|turns?:[^,:@\s]+:[^,@\s]+@[^,@\s]+)"

# The folders of a user without a home, such as a number without an account. Nobody else can write there, unlike in /tmp.
_CACHE_WITHOUT_HOME: Final = Path("/var/cache")
_STATE_WITHOUT_HOME: Final = Path("/var/lib")


def _cache_dir() -> Path:
    """Return the default of `cache_dir`."""
    return _own_folder("XDG_CACHE_HOME", ".cache", _CACHE_WITHOUT_HOME)


def _state_dir() -> Path:
    """Return the default of `state_dir`."""
    return _own_folder("XDG_STATE_HOME", ".local/state", _STATE_WITHOUT_HOME)


def _own_folder(variable: str, in_home: str, without_home: Path) -> Path:
    """Return Posewire's folder by the XDG specification. It is looked up at each call: a process may have no home folder."""
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():  # the specification ignores others
        return named / "posewire"
    try:
        return Path.home() / in_home / "posewire"
    except (RuntimeError, KeyError):
        return without_home / "posewire"


class Device(StrEnum):
    """The device that runs the models."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


class Decoding(StrEnum):
    """The method that decodes heatmaps into sub-pixel keypoints."""

    DARK = "dark"
    QUARTER = "quarter"


class Settings(BaseSettings):
    """All settings. docs/settings.md has the same descriptions."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port to listen on; 0: any free port.")
    ops_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Separate port for /livez, /readyz and /metrics; empty: they are on POSEWIRE_PORT."
    )
    grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port of the Open Inference Protocol over gRPC; needs the extra `grpc`; empty: no gRPC."
    )
    api_keys_file: Path | None = Field(
        None,
        description="File with lines of `posewire keys new`; read again when it changes; empty: no key is needed.",
    )
    allowed_origins: str | None = Field(
        None,
        pattern=rf"^({_ORIGIN})(,{_ORIGIN})*$",
        description="Other sites whose pages may send requests and open streams, such as https://a.example,https://b.example; *: any.",
    )
    allowed_hosts: str | None = Field(
        None,
        pattern=rf"^({_HOST})(,{_HOST})*$",
        description="Hosts that requests may be for, without ports, such as pose.example,*.pose.example,192.0.2.7; others get 421; "
        "empty: any.",
    )
    trusted_proxies: str | None = Field(
        None,
        description="Addresses or networks, separated by commas, of proxies whose X-Forwarded-For is trusted; empty: none.",
    )
    max_connections: Annotated[int, Field(ge=1)] = Field(
        1000, description="Limit of open connections; above it, the one that waits longest for a request is closed, else 503."
    )
    max_idle_connections: Annotated[int, Field(ge=1)] = Field(
        500, description="Limit of connections that wait for a request; above it, the one that waits longest is closed."
    )
    max_header_bytes: Annotated[int, Field(ge=1024)] = Field(65_536, description="Limit of bytes of a request's headers; above it, 431.")
    max_target_bytes: Annotated[int, Field(ge=64)] = Field(8192, description="Limit of bytes of a request's path and query; above it, 414.")
    head_timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(
        10.0, description="Limit of seconds until a request's head has arrived; above it, 408."
    )
    write_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        30.0, description="Limit of seconds that a client may leave an answer unread; then its connection is cut."
    )
    grpc_max_bytes: Annotated[int, Field(ge=1024, le=2**31 - 1)] = Field(
        32_000_000, description="Limit of bytes of one gRPC message; above it, RESOURCE_EXHAUSTED."
    )
    grpc_max_calls: Annotated[int, Field(ge=1, le=10_000)] = Field(
        32,
        description="Limit of gRPC calls at a time; above it, UNAVAILABLE. Their messages may need this times POSEWIRE_GRPC_MAX_BYTES.",
    )
    device: Device = Field(Device.AUTO, description="auto, cpu, cuda or tensorrt. auto uses CUDA if it loads, else the CPU.")
    model_store: Path | None = Field(None, description="Folder with manifest.toml and weights; empty: the models that ship with Posewire.")
    models: str | None = Field(
        None,
        description="Name of a pair of models: fast, accurate or paper; empty: the pair set by `posewire models use`, else the manifest's "
        "defaults.",
    )
    detector: str | None = Field(None, description="Name of a person detector in the manifest; overrides the pair.")
    pose: str | None = Field(None, description="Name of a pose model in the manifest; overrides the pair.")
    workers: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None,
        description="Worker processes that run the models on a CPU, about 180 MB each; empty: one per core that the container may use; "
        "0: threads run the models.",
    )
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        0, description="Parallel model runs on the CPU; 0: one per core that the container may use."
    )
    intra_op_threads: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Threads of one run of ONNX Runtime; Posewire's kernels always use one."
    )
    pose_runtime: str = Field(
        "auto",
        description="auto, kernels or onnxruntime. auto uses Posewire's kernels on a CPU if they are built, else ONNX Runtime.",
    )
    decoding: Decoding = Field(Decoding.DARK, description="Sub-pixel decoding of heatmaps: dark or quarter.")
    flip_test: bool = Field(False, description="Average each person's heatmaps with those of the mirrored crop; doubles the cost.")
    max_bytes: Annotated[int, Field(ge=1)] = Field(20_000_000, description="Limit of bytes of one encoded image.")
    max_pixels: Annotated[int, Field(ge=1)] = Field(
        50_000_000, description="Limit of pixels of one image; checked in its header before it is decoded."
    )
    max_pictures: Annotated[int, Field(ge=1, le=256)] = Field(16, description="Limit of images of one request.")
    max_videos: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="Limit of videos processed at a time, and of four times as many uploads; above it, 503."
    )
    video_max_bytes: Annotated[int, Field(ge=1)] = Field(
        200_000_000, description="Limit of bytes of one video; the upload is kept in the temporary folder."
    )
    video_max_seconds: Annotated[float, Field(gt=0)] = Field(600.0, description="Limit of seconds of one video.")
    video_max_frames: Annotated[int, Field(ge=1)] = Field(18_000, description="Limit of frames of one video.")
    video_max_pixels: Annotated[int, Field(ge=1)] = Field(
        8_300_000, description="Limit of pixels of one frame of a video; checked before it is decoded."
    )
    max_people: Annotated[int, Field(ge=1, le=1000)] = Field(50, description="Limit of people per image, and the default of max_people.")
    min_detection_score: Annotated[float, Field(ge=0, le=1)] = Field(
        0.35, description="Default of min_detection_score: the minimum probability, 0..1, that a box shows a person."
    )
    max_in_flight: Annotated[int, Field(ge=1)] = Field(
        64, description="Limit of images admitted at a time; above it, 503 with Retry-After."
    )
    max_pixels_in_flight: Annotated[int, Field(ge=1)] = Field(
        200_000_000, description="Limit of pixels of all decoded images together, 3 bytes each; above it, images wait."
    )
    max_bytes_in_flight: Annotated[int, Field(ge=1)] = Field(
        512_000_000,
        description="Limit of bytes of all request bodies of images in memory; one client (the holder of a key, or an address) may have "
        "half of it; above it, 503 with Retry-After.",
    )
    rate_limit: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Images per second of one client (the holder of a key, or an address); above it, 429. 0: no limit."
    )
    rate_burst: Annotated[int, Field(ge=1)] = Field(20, description="Images that a client may send at once, with a rate limit.")
    request_timeout_ms: Annotated[int, Field(ge=1)] = Field(10_000, description="Default and maximum of X-Request-Timeout-Ms.")
    max_batch: Annotated[int, Field(ge=1, le=256)] = Field(
        16,
        description="Limit of items in one model run. On a GPU the best size for images and for crops is measured at start; on a CPU it "
        "limits the crops of one image.",
    )
    batch_window_ms: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        None,
        description="On a GPU, the time that a batch waits for more items after its first; empty: measured at start; 0: no wait.",
    )
    gpu_memory_mb: Annotated[int, Field(ge=256)] = Field(2048, description="Limit of GPU memory of one model, MiB.")
    cache_dir: Path = Field(
        default_factory=_cache_dir, description="Folder for pulled models, TensorRT's engines and the measured costs of model runs."
    )
    state_dir: Path = Field(
        default_factory=_state_dir, description="Folder for what must last: the cameras, and messages that wait for their receivers."
    )
    camera_sources: str | None = Field(
        None,
        description="Sources that cameras may have, such as rtsp://10.0.0.0/8,http://*.cams.example,/videos,/dev/video0; *: any; empty: "
        "files and devices, if no API keys are needed, else none.",
    )
    camera_sinks: str | None = Field(
        None,
        description="Where cameras that are added over HTTP may send messages, such as https://hooks.example,mqtt://10.0.0.0/8,"
        "/var/log/cameras; *: anywhere; empty: nowhere.",
    )
    max_cameras: Annotated[int, Field(ge=0, le=1000)] = Field(16, description="Limit of cameras; above it, 503.")
    max_request_bytes: Annotated[int, Field(ge=1)] = Field(100_000_000, description="Limit of bytes of one request's body.")
    max_streams: Annotated[int, Field(ge=0, le=10_000)] = Field(
        32, description="Limit of open WebSocket streams; above it, 503 or close code 1013."
    )
    max_streams_per_client: Annotated[int, Field(ge=0, le=10_000)] = Field(
        0,
        description="Limit of open streams of one client (the holder of a key, or an address); above it, 429 or close code 4430; "
        "0: no limit.",
    )
    max_webrtc_sessions: Annotated[int, Field(ge=0, le=1000)] = Field(
        8, description="Limit of WebRTC sessions, each a process of about 100 MB; above it, 503; 0: no WebRTC."
    )
    webrtc_ice_servers: str | None = Field(
        None,
        pattern=rf"^{_ICE_SERVER}(,{_ICE_SERVER})*$",
        description="STUN and TURN servers by which WebRTC peers find the service behind a NAT, such as "
        "stun:stun.example,turn:user:password@turn.example:3478?transport=udp; at most one of each; empty: none is asked.",
    )
    stream_max_bytes: Annotated[int, Field(ge=1)] = Field(2_000_000, description="Limit of bytes of one frame or message of a stream.")
    stream_max_pixels: Annotated[int, Field(ge=1)] = Field(
        8_300_000, description="Limit of pixels of one frame of a stream; checked in its header before it is decoded."
    )
    stream_deadline_ms: Annotated[int, Field(ge=1)] = Field(
        1000, description="Limit of a frame's age when its result is sent; an older frame is answered with an error."
    )
    stream_credits: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Limit of results without an acknowledgement; at the limit a stream waits for the client."
    )
    stream_start_s: Annotated[float, Field(gt=0, le=600)] = Field(
        5.0, description="Limit of seconds until a stream's start message arrives."
    )
    stream_idle_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        30.0, description="Seconds without a message, an acknowledgement or a pong after which a stream is closed."
    )
    drain_s: Annotated[float, Field(ge=0, le=600)] = Field(
        1.0, description="Seconds from SIGTERM (/readyz answers 503) to the closing of the port."
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error.")
    access_log_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="Part of the successful requests that is logged. Failed requests are all logged, but for those rejected "
        "before their bodies are read: one line a second has their number.",
    )
    otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector (OTLP over HTTP), such as http://collector:4318/v1/traces; empty: no tracing."
    )
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Part of the traces that is kept; if a caller sends a traceparent, its decision holds."
    )
    model_mirror: str | None = Field(
        None, description="Folder or address (file://, http(s)://) with the files of models to pull; empty: the addresses in the manifest."
    )

    @property
    def origins(self) -> tuple[str, ...]:
        """Return the parts of `allowed_origins`, in lower case."""
        return tuple(origin.strip().lower() for origin in (self.allowed_origins or "").split(",") if origin.strip())

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the parts of `allowed_hosts`, in lower case."""
        return tuple(host.strip().lower() for host in (self.allowed_hosts or "").split(",") if host.strip())

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the parts of `camera_sources`, or what is allowed without it."""
        if self.camera_sources is None:
            return ("/",) if self.api_keys_file is None else ()
        return _parts(self.camera_sources)

    @property
    def ice_servers(self) -> tuple[str, ...]:
        """Return the parts of `webrtc_ice_servers`."""
        return _parts(self.webrtc_ice_servers or "")

    @property
    def sinks(self) -> tuple[str, ...]:
        """Return the parts of `camera_sinks`."""
        return _parts(self.camera_sinks or "")

    def pose_options(
        self, min_detection_score: float | None = None, max_people: int | None = None, boxes_xywh: FloatArray | None = None
    ) -> PoseOptions:
        """Return the options for one image: a caller's values within the limits of the settings; None: the settings' values."""
        score = self.min_detection_score if min_detection_score is None else min_detection_score
        return PoseOptions(score, min(max_people or self.max_people, self.max_people), boxes_xywh)


def _parts(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_url(value: str) -> bool:
    return re.match(r"(tcp|udp|sctp)://", value) is not None


# The variables that Kubernetes sets in each container for each service of the namespace, by the end of their name, and what their
# values look like: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables. Docker's links are the same.
_SERVICE_LINKS: Final[Mapping[str, Callable[[str], bool]]] = {
    r"(\w+_)?SERVICE_HOST": _is_address,
    r"(\w+_)?SERVICE_PORT(_\w+)?": str.isdecimal,
    r"(\w+_)?PORT": _is_url,
    r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)": _is_url,
    r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_PROTO": ("tcp", "udp", "sctp").__contains__,
    r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_PORT": str.isdecimal,
    r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_ADDR": _is_address,
}


def _is_service_link(name: str, value: str) -> bool:
    """Return whether a variable describes a Kubernetes service. Such a name may be that of a setting: then the value decides.

    Args:
        name: without the prefix, in upper case.
        value: of the variable.
    """
    return any(re.fullmatch(pattern, name) and fits(value) for pattern, fits in _SERVICE_LINKS.items())


def load_settings(environment: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read the settings from the environment; `overrides` that are not None replace them.

    An empty variable means the default. Kubernetes' variables for services are ignored.

    Raises:
        ConfigError: a `POSEWIRE_` variable is unknown, or a value is not valid; the message names the variable and the value.
    """
    environment = os.environ if environment is None else environment
    given = {
        name: value
        for name, value in environment.items()
        if name.upper().startswith(PREFIX) and not _is_service_link(name.upper().removeprefix(PREFIX), value)
    }
    unknown = sorted(k for k in given if k.upper().removeprefix(PREFIX).lower() not in Settings.model_fields)
    if unknown:
        raise ConfigError(f"{unknown[0]} is not a setting of Posewire; docs/settings.md lists them")
    values: dict[str, object] = {k.upper().removeprefix(PREFIX).lower(): v for k, v in given.items() if v}
    values |= {k: v for k, v in overrides.items() if v is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise ConfigError(f"{PREFIX}{name.upper()}={first['input']!r}: {first['msg'].lower()}") from None
