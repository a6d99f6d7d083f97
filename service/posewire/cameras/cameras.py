"""All cameras of the service: added, changed and removed while it runs, and there again after a restart."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar
from urllib.parse import urlsplit, urlunsplit

from posewire.cameras.broadcast import CameraEvents
from posewire.cameras.sources import SCHEMES, AllowedPlaces, Source
from posewire.cameras.store import CameraStore, InUse
from posewire.cameras.watcher import CameraWatcher
from posewire.config import Settings
from posewire.engine.engine import Engine
from posewire.errors import BadParameter, CameraExists, ConfigError, NoSuchCamera, Overloaded, PosewireError, StateUnavailable
from posewire.events.watcher import EventWatcher
from posewire.schemas.cameras import CameraOut, CameraPatch, CameraSpec
from posewire.schemas.sinks import MqttSink, Sink, WebhookSink
from posewire.telemetry.metrics import CameraMetrics, Metrics

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

SINK_SCHEMES: Final = frozenset({"http", "https", "mqtt", "mqtts"})

# `GET /v1/cameras/events` is another resource.
_RESERVED: Final = frozenset({"events"})

# How often a process looks whether the one that watches the cameras has gone.
_STANDBY_S: Final = 2.0


class Cameras:
    """The cameras of one state folder. Of several processes with the same folder one watches; the others wait to take over.

    Args:
        settings: of the service.
        metrics: of the service.

    Raises:
        ConfigError: `POSEWIRE_CAMERA_SOURCES` or `POSEWIRE_CAMERA_SINKS` is wrong.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.events = CameraEvents()
        self._settings = settings
        self._metrics = metrics
        self._sources = AllowedPlaces("POSEWIRE_CAMERA_SOURCES", SCHEMES, settings.sources)
        self._sinks = AllowedPlaces("POSEWIRE_CAMERA_SINKS", SINK_SCHEMES, settings.sinks)
        self._engine: Engine | None = None
        self._store: CameraStore | None = None
        self._problem: str | None = "the service is starting"
        self._watchers: dict[str, tuple[CameraWatcher, CameraMetrics, asyncio.Task[None]]] = {}
        self._changing = asyncio.Lock()
        self._standby: asyncio.Task[None] | None = None

    async def start(self, engine: Engine) -> None:
        """Watch the cameras that are kept; if another process does, wait for its end in the background. The engine has started."""
        self._engine = engine
        self._problem = None
        if (self._settings.state_dir / "cameras.sqlite").exists():
            self._standby = asyncio.create_task(self._take_over(), name="cameras")

    async def close(self) -> None:
        """Stop watching; what is kept stays."""
        if self._standby is not None:
            self._standby.cancel()
            await asyncio.gather(self._standby, return_exceptions=True)
        async with self._changing:
            await asyncio.gather(*(self._stop(name) for name in list(self._watchers)))
            if self._store is not None:
                self._store.close()

    def all(self) -> list[CameraOut]:
        """Return all cameras, by name.

        Raises:
            StateUnavailable: another process watches them, or the folder cannot be used.
        """
        self._check()
        return [shown(watcher) for _, (watcher, _, _) in sorted(self._watchers.items())]

    def get(self, name: str) -> CameraWatcher:
        """Return a camera.

        Raises:
            NoSuchCamera: none has this name.
            StateUnavailable: as `all`.
        """
        self._check()
        if name not in self._watchers:
            raise NoSuchCamera(f"no camera is called {name!r}; GET /v1/cameras lists them")
        return self._watchers[name][0]

    async def add(self, spec: CameraSpec) -> CameraOut:
        """Keep a camera, and watch it.

        Raises:
            CameraExists: one has this name.
            ForbiddenPlace, BadParameter: the source or a sink is not allowed or not valid, the name is reserved, or a rule needs a
                keypoint that the model does not have.
            Overloaded: there are too many.
            StateUnavailable: as `all`, or the disk cannot be written.
        """
        if spec.name in _RESERVED:
            raise BadParameter(f"name: {spec.name!r} is a path of the API; choose another name")
        async with self._changing:
            self._check()
            if spec.name in self._watchers:
                raise CameraExists(f"a camera is called {spec.name!r}; PATCH /v1/cameras/{spec.name} changes it")
            if len(self._watchers) >= self._settings.max_cameras:
                raise Overloaded(f"there are {len(self._watchers)} cameras already, which is POSEWIRE_MAX_CAMERAS", limit="cameras")
            self._check_spec(spec)
            store = await self._opened()
            await self._write(store.put, spec)
            return shown(self._watch(spec))

    async def change(self, name: str, patch: CameraPatch) -> CameraOut:
        """Change a camera: it is watched anew. Secrets that are given as they are shown stay as they are.

        Raises:
            NoSuchCamera: none has this name.
            ForbiddenPlace, BadParameter, StateUnavailable: as `add`.
        """
        async with self._changing:
            spec = patched(self.get(name).spec, patch)
            self._check_spec(spec)
            store = await self._opened()
            await self._write(store.put, spec)
            await self._stop(name)
            return shown(self._watch(spec))

    async def remove(self, name: str) -> None:
        """Stop watching a camera, and forget it.

        Raises:
            NoSuchCamera: none has this name.
            StateUnavailable: as `add`.
        """
        async with self._changing:
            self.get(name)
            store = await self._opened()
            await self._write(store.remove, name)
            await self._stop(name)
            del self._watchers[name]

    def _check(self) -> None:
        if self._problem is not None:
            raise StateUnavailable(self._problem, retry_after_s=5)

    def _check_spec(self, spec: CameraSpec) -> None:
        self._check_places(spec)
        assert self._engine is not None
        try:
            EventWatcher(spec.rules, self._engine.pose.spec.keypoints.names)
        except ConfigError as error:
            raise BadParameter(str(error)) from None

    def _check_places(self, spec: CameraSpec) -> None:
        """Check the source and the sinks against the lists of the operator, which may have changed since they were given."""
        self._sources.check(Source.parse(spec.source).address)
        for sink in spec.sinks:
            if isinstance(sink, MqttSink | WebhookSink):
                self._sinks.check(_without_credentials(sink.url))
            elif not sink.path.startswith("/"):
                raise BadParameter(f"sinks: {sink.path}: an absolute path is needed")
            else:
                self._sinks.check(sink.path)

    async def _opened(self) -> CameraStore:
        self._check()
        if self._store is None:
            try:
                self._store = await asyncio.to_thread(CameraStore, self._settings.state_dir)
            except PosewireError as error:
                raise StateUnavailable(str(error), retry_after_s=5) from None
        return self._store

    async def _write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(call, *args, **kwargs)
        except PosewireError as error:
            raise StateUnavailable(str(error)) from None

    async def _take_over(self) -> None:
        """Open the store as soon as no other process has it, and watch its cameras."""
        while True:
            try:
                store = await asyncio.to_thread(CameraStore, self._settings.state_dir)
                specs = await asyncio.to_thread(store.load)
                break
            except InUse as error:
                if self._problem is None:
                    log.info("another process watches the cameras; this one waits")
                self._problem = f"{error}; ask that instance, or try again when it has ended"
            except ConfigError as error:
                log.exception("the cameras cannot be read")
                self._problem = str(error)
                return
            await asyncio.sleep(_STANDBY_S)
        async with self._changing:
            self._store, self._problem = store, None
            for spec in specs:
                self._watch(spec)

    def _watch(self, spec: CameraSpec) -> CameraWatcher:
        assert self._engine is not None
        metrics = self._metrics.camera(spec.name)
        watcher = CameraWatcher(spec, self._engine, self._settings.state_dir / "spools", metrics, self.events)
        task = asyncio.create_task(self._run(watcher), name=f"camera {spec.name}")
        self._watchers[spec.name] = watcher, metrics, task
        return watcher

    async def _run(self, watcher: CameraWatcher) -> None:
        try:
            self._check_places(watcher.spec)
        except PosewireError as error:
            watcher.fail(str(error))
            return
        await watcher.run()

    async def _stop(self, name: str) -> None:
        """Stop watching a camera. It stays in the list until it is replaced or removed: who asks meanwhile must find it."""
        watcher, metrics, task = self._watchers[name]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        watcher.broadcast.end()
        metrics.remove()


def patched(spec: CameraSpec, patch: CameraPatch) -> CameraSpec:
    """Return a changed camera. A source without user and password keeps those of before, if its address is the same.

    Raises:
        BadParameter: the result is no valid camera.
    """
    changes = {name: getattr(patch, name) for name in patch.model_fields_set}
    if "source" in changes and changes["source"] is not None:
        before, after = Source.parse(spec.source), Source.parse(changes["source"])
        if after.address == before.address and not after.credentials:
            changes["source"] = spec.source
    for name in ("source", "detect_every", "min_keypoint_score", "enabled", "rules", "sinks"):
        if changes.get(name, ...) is None:
            raise BadParameter(f"{name} cannot be null")
    try:
        return CameraSpec.model_validate(spec.model_copy(update=changes), from_attributes=True)
    except ValueError as error:
        raise BadParameter(str(error)) from None


def shown(watcher: CameraWatcher) -> CameraOut:
    """Return a camera as it is answered."""
    spec = watcher.spec
    source = Source.parse(spec.source)
    fields = {name: getattr(spec, name) for name in CameraOut.model_fields if name in CameraSpec.model_fields}
    fields |= {"source": source.address, "credentials": bool(source.credentials), "sinks": tuple(map(_without_secrets, spec.sinks))}
    return CameraOut(**fields, status=watcher.status)


def _without_secrets(sink: Sink) -> Sink:
    if not isinstance(sink, MqttSink | WebhookSink):
        return sink
    return sink.model_copy(update={"url": _without_credentials(sink.url)})


def _without_credentials(address: str) -> str:
    url = urlsplit(address)
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))
