"""Opens sinks by their JSON."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from posewire.errors import ConfigError
from posewire.events.watcher import EventWatcher
from posewire.schemas.events import Rule, ZoneRule
from posewire.schemas.sinks import FileSink, MessageKind, MqttSink, WebhookSink, address_of
from posewire.schemas.sinks import Sink as SinkSpec
from posewire.sinks.base import Report, Sink, Transport, spool_path
from posewire.sinks.feed import Feed, Subscription
from posewire.sinks.file import FileLines
from posewire.sinks.spooled import SpooledSink
from posewire.sinks.webhook import WebhookTransport


async def subscribe(specs: Sequence[SinkSpec], camera: str, zones: tuple[str, ...], spools: Path, report: Report) -> list[Subscription]:
    """Open sinks, all or none; arguments and errors are as of `open_sink`."""
    opened: list[Subscription] = []
    try:
        for spec in specs:
            kinds = frozenset[MessageKind](spec.send)
            if isinstance(spec, MqttSink) and spec.home_assistant:
                kinds |= {"state"}
            opened.append(Subscription(open_sink(spec, camera, zones, spools, report), kinds))
    except BaseException:
        for subscription in opened:
            await subscription.sink.close()
        raise
    return opened


async def open_feed(
    camera: str, rules: Sequence[Rule], sinks: Sequence[SinkSpec], names: tuple[str, ...], spools: Path, report: Report
) -> Feed:
    """Open what gives a camera's events and feeds its sinks; needs a running event loop.

    Args:
        camera: its name.
        rules: that give events.
        sinks: their JSON.
        names: of the keypoints of the model.
        spools: as of `open_sink`.
        report: as of `open_sink`.

    Raises:
        ConfigError: a rule needs a keypoint that the model does not have, or as `open_sink`.
        PosewireError: as `open_sink`.
    """
    watcher = EventWatcher(rules, names)
    zones = tuple(rule.name for rule in rules if isinstance(rule, ZoneRule))
    return Feed(camera, watcher, await subscribe(sinks, camera, zones, spools, report))


def open_sink(spec: SinkSpec, camera: str, zones: tuple[str, ...], spools: Path, report: Report) -> Sink:
    """Open a sink; needs a running event loop.

    Args:
        spec: its JSON.
        camera: its name.
        zones: names of the rules for zones.
        spools: folder of the messages that wait.
        report: takes a line about a receiver that goes away.

    Raises:
        ConfigError: an extra is not installed.
        PosewireError: a file cannot be written.
    """
    if isinstance(spec, FileSink):
        return FileLines(spec)
    host = urlsplit(spec.url).netloc.rpartition("@")[2]
    name = f"{spec.kind} {host}"  # no more: the path of a webhook may be its secret
    transport = WebhookTransport(spec) if isinstance(spec, WebhookSink) else _mqtt(spec, camera, zones)
    return SpooledSink(transport, spool_path(spools, camera, name, address_of(spec)), name, report)


def _mqtt(spec: MqttSink, camera: str, zones: tuple[str, ...]) -> Transport:
    try:
        from posewire.sinks.mqtt import MqttTransport  # noqa: PLC0415 - aiomqtt is an extra
    except ImportError:
        raise ConfigError("MQTT needs aiomqtt: pip install 'posewire[mqtt]'") from None
    return MqttTransport(spec, camera, zones)
