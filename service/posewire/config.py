"""The settings, read once.

Every setting is an environment variable `POSEWIRE_<NAME>`; an unknown one is an error, so that a typo cannot go
unnoticed.
"""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from posewire.errors import ConfigError
from posewire.types import FloatArray, PoseOptions

PREFIX = "POSEWIRE_"

_ORIGIN = r"\s*(\*|https?://[^/,\s]+)\s*"


class Device(StrEnum):
    """Where the models run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


class Decoding(StrEnum):
    """How heatmaps become sub-pixel keypoints."""

    DARK = "dark"
    QUARTER = "quarter"


class ModelRuntime(StrEnum):
    """What runs a model."""

    AUTO = "auto"
    KERNELS = "kernels"
    ONNXRUNTIME = "onnxruntime"


class Settings(BaseSettings):
    """What an operator may choose. The descriptions are the README's settings table."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port to listen on; 0 takes a free one.")
    ops_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port of its own for /livez, /readyz and /metrics, which then are on no other; empty: they are on POSEWIRE_PORT."
    )
    api_keys_file: Path | None = Field(
        None, description="File of API keys, as `posewire keys new` prints them, read again when it changes; empty: everyone is let in."
    )
    allowed_origins: str | None = Field(
        None,
        pattern=rf"^({_ORIGIN})(,{_ORIGIN})*$",
        description="Other sites whose pages may ask and open streams, such as https://a.example,https://b.example; *: any.",
    )
    trusted_proxies: str | None = Field(
        None,
        description="Addresses or networks, with commas between, of proxies whose X-Forwarded-For is believed; empty: none.",
    )
    device: Device = Field(Device.AUTO, description="auto, cpu, cuda or tensorrt. auto takes CUDA where it really loads, else the CPU.")
    model_store: Path | None = Field(None, description="Folder with manifest.toml and weights; empty: the models that ship with Posewire.")
    models: str | None = Field(
        None,
        description="Name of a pair of the manifest: fast, accurate or paper; empty: the pair that `posewire models use` keeps, else the "
        "manifest's defaults.",
    )
    detector: str | None = Field(None, description="Name of a person detector in the manifest; it replaces that of the pair or default.")
    pose: str | None = Field(None, description="Name of a pose model in the manifest; it replaces that of the pair or default.")
    workers: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None,
        description="Processes of the service that run the models on a CPU, about 180 MB each; empty: one for each core that the "
        "container may use; 0: none, threads do.",
    )
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        0, description="Model runs side by side on the CPU; 0: one for each core that the container may use."
    )
    intra_op_threads: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Threads of each of ONNX Runtime's runs; Posewire's kernels use one."
    )
    pose_runtime: ModelRuntime = Field(
        ModelRuntime.AUTO,
        description="auto, kernels or onnxruntime. auto takes Posewire's own kernels on a CPU where they are built, else ONNX Runtime.",
    )
    decoding: Decoding = Field(Decoding.DARK, description="Sub-pixel decoding of heatmaps: dark or quarter.")
    flip_test: bool = Field(False, description="Average each person's heatmaps with those of the mirrored crop: twice the cost.")
    max_bytes: Annotated[int, Field(ge=1)] = Field(20_000_000, description="Bytes of one encoded picture.")
    max_pixels: Annotated[int, Field(ge=1)] = Field(
        50_000_000, description="Pixels of one picture, read from its header before it is decoded."
    )
    max_pictures: Annotated[int, Field(ge=1, le=256)] = Field(16, description="Pictures of one request.")
    max_videos: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="Videos that are uploaded or worked on at a time; above that, 503."
    )
    video_max_bytes: Annotated[int, Field(ge=1)] = Field(
        200_000_000, description="Bytes of one video; it lies in the temporary folder meanwhile."
    )
    video_max_seconds: Annotated[float, Field(gt=0)] = Field(600.0, description="Length of one video.")
    video_max_frames: Annotated[int, Field(ge=1)] = Field(18_000, description="Frames of one video.")
    video_max_pixels: Annotated[int, Field(ge=1)] = Field(
        8_300_000, description="Pixels of one frame of a video, known before it is decoded."
    )
    max_people: Annotated[int, Field(ge=1, le=1000)] = Field(
        50, description="People of one picture: the cap, and the default of max_people."
    )
    min_detection_score: Annotated[float, Field(ge=0, le=1)] = Field(
        0.25, description="Default of min_detection_score: the least chance, 0..1, that there is a person in a box."
    )
    max_in_flight: Annotated[int, Field(ge=1)] = Field(
        64, description="Pictures in the service at a time; above that, 503 with Retry-After."
    )
    max_pixels_in_flight: Annotated[int, Field(ge=1)] = Field(
        200_000_000, description="Pixels of all pictures that are decoded at a time, 3 bytes each; above that, pictures wait."
    )
    rate_limit: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Pictures a second of one client, a key's holder or an address; above that, 429. 0: no limit."
    )
    rate_burst: Annotated[int, Field(ge=1)] = Field(20, description="Pictures that a client may send at once under rate_limit.")
    request_timeout_ms: Annotated[int, Field(ge=1)] = Field(10_000, description="Default and upper bound of X-Request-Timeout-Ms.")
    max_batch: Annotated[int, Field(ge=1, le=256)] = Field(
        16,
        description="Items of one model run at most. On a GPU: of images and of crops, as measured at start; on a CPU: crops of one image.",
    )
    batch_window_ms: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        None, description="On a GPU, how long a batch waits for more items after its first one; empty: by what is measured; 0: it does not."
    )
    gpu_memory_mb: Annotated[int, Field(ge=256)] = Field(2048, description="MiB of GPU memory that one model may take.")
    cache_dir: Path = Field(
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "posewire",
        description="Folder for what is costly to make again: models that were pulled, TensorRT's engines.",
    )
    max_request_bytes: Annotated[int, Field(ge=1)] = Field(100_000_000, description="Bytes of one request's body, all pictures together.")
    max_streams: Annotated[int, Field(ge=0, le=10_000)] = Field(
        32, description="WebSocket streams at a time; above that, 503 or close code 1013."
    )
    max_streams_per_client: Annotated[int, Field(ge=0, le=10_000)] = Field(
        0, description="Streams of one client, a key's holder or an address, at a time; above that, 429 or close code 4430. 0: no limit."
    )
    stream_max_bytes: Annotated[int, Field(ge=1)] = Field(2_000_000, description="Bytes of one frame or message of a stream.")
    stream_max_pixels: Annotated[int, Field(ge=1)] = Field(
        8_300_000, description="Pixels of one frame of a stream, read from its header before it is decoded."
    )
    stream_deadline_ms: Annotated[int, Field(ge=1)] = Field(
        1000, description="Age that a frame may reach before its result is sent; an older one is answered with an error."
    )
    stream_credits: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Results of a stream that may be unacknowledged; then its work stops until the client acknowledges."
    )
    stream_start_s: Annotated[float, Field(gt=0, le=600)] = Field(
        5.0, description="Seconds within which a stream's start message must come."
    )
    stream_idle_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        30.0, description="Seconds without a message, an acknowledgement or a sign of life after which a stream is closed."
    )
    drain_s: Annotated[float, Field(ge=0, le=600)] = Field(
        1.0, description="Seconds between SIGTERM (readyz turns 503) and the closing of the port."
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error.")
    access_log_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="Part of the good requests that is logged; others all are, but for those that a full service turns away: "
        "it tells how many.",
    )
    otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector (OTLP over HTTP), such as http://collector:4318/v1/traces; empty: no tracing."
    )
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Part of the traces that begin here which is kept; a caller's traceparent decides for its own."
    )
    model_mirror: str | None = Field(
        None, description="Folder or address (file://, http(s)://) that has the files of models to pull; empty: where the manifest says."
    )

    @property
    def origins(self) -> tuple[str, ...]:
        """Of `allowed_origins`, in small letters."""
        return tuple(origin.strip().lower() for origin in (self.allowed_origins or "").split(",") if origin.strip())

    def pose_options(
        self, min_detection_score: float | None = None, max_people: int | None = None, boxes_xywh: FloatArray | None = None
    ) -> PoseOptions:
        """What a caller chose for a picture, within what the operator allows; None: the operator's choice."""
        score = self.min_detection_score if min_detection_score is None else min_detection_score
        return PoseOptions(score, min(max_people or self.max_people, self.max_people), boxes_xywh)


def load_settings(environment: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read the settings from the environment, with `overrides` (None: not given) on top.

    Raises:
        ConfigError: a `POSEWIRE_` variable is unknown or a value is bad; the message names the key and the value.
    """
    environment = os.environ if environment is None else environment
    given = {k: v for k, v in environment.items() if k.upper().startswith(PREFIX)}
    unknown = sorted(k for k in given if k.upper().removeprefix(PREFIX).lower() not in Settings.model_fields)
    if unknown:
        raise ConfigError(f"{unknown[0]} is not a setting of Posewire; the README's settings table lists them")
    values: dict[str, object] = {k.upper().removeprefix(PREFIX).lower(): v for k, v in given.items()}
    values |= {k: v for k, v in overrides.items() if v is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise ConfigError(f"{PREFIX}{name.upper()}={first['input']!r}: {first['msg'].lower()}") from None
