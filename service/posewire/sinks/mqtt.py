"""Messages to a broker of MQTT 5, and the discovery of Home Assistant."""

import asyncio
import contextlib
import json
import ssl
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import aiomqtt

from posewire.schemas.sinks import Delivery, MqttSink
from posewire.sinks.base import UndeliveredError

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_TIMEOUT_S: Final = 10.0
_ONLINE, _OFFLINE = "online", "offline"


class MqttTransport:
    """Publishes each delivery to TOPIC/CAMERA/KIND. It connects when there is something to deliver, and stays connected.

    `state` is retained, and so is TOPIC/CAMERA/availability: `online`, or `offline` as the last will.

    Args:
        sink: the broker and the topic.
        camera: its name.
        zones: names of the rules for zones, which Home Assistant is told of.
    """

    def __init__(self, sink: MqttSink, camera: str, zones: tuple[str, ...]) -> None:
        self._sink = sink
        self._camera = camera
        self._zones = zones
        self._topic = f"{sink.topic}/{_level(camera)}"
        self._connection: _Connection | None = None

    async def deliver(self, delivery: Delivery) -> None:
        """Return when the broker has the message (with QoS 0: when it is sent).

        Raises:
            UndeliveredError: the broker cannot be reached or rejects the connection.
        """
        try:
            connection = self._connection or await self._connect()
            await connection.publish(
                f"{self._topic}/{delivery.kind}", delivery.model_dump_json(), qos=self._sink.qos, retain=delivery.kind == "state"
            )
        except (aiomqtt.MqttError, OSError) as error:
            await self._drop()
            raise UndeliveredError(f"the broker does not take it: {error}") from None

    async def close(self) -> None:
        """Say goodbye: the broker does not send the last will then, so `offline` is published."""
        if self._connection is not None:
            with contextlib.suppress(aiomqtt.MqttError, OSError):  # the broker publishes the last will then
                await self._connection.publish(f"{self._topic}/availability", _OFFLINE, timeout_s=1.0)
        await self._drop()

    async def _connect(self) -> "_Connection":
        url = urlsplit(self._sink.url)
        connection = await _Connection.open(
            aiomqtt.Client(
                url.hostname or "",
                url.port or _PORTS[url.scheme],
                username=unquote(url.username) if url.username else None,
                password=unquote(url.password) if url.password else None,
                protocol=aiomqtt.ProtocolVersion.V5,
                tls_context=ssl.create_default_context() if url.scheme == "mqtts" else None,
                will=aiomqtt.Will(f"{self._topic}/availability", _OFFLINE, qos=1, retain=True),
                timeout=_TIMEOUT_S,
            )
        )
        self._connection = connection
        await connection.publish(f"{self._topic}/availability", _ONLINE)
        if self._sink.home_assistant:
            for topic, config in discovery(self._camera, self._topic, self._zones).items():
                await connection.publish(topic, json.dumps(config))
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class _Connection:
    """A connection to a broker whose loss is noticed at once, also while a message waits for its confirmation."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._lost = asyncio.create_task(self._listen(), name="mqtt connection")

    @classmethod
    async def open(cls, client: aiomqtt.Client) -> Self:
        """Connect.

        Raises:
            aiomqtt.MqttError: the broker cannot be reached, or rejects the connection.
        """
        await client.__aenter__()
        return cls(client)

    async def _listen(self) -> None:
        """Return when the connection is lost. Nothing is subscribed to, so no message comes."""
        with contextlib.suppress(aiomqtt.MqttError):
            async for _ in self._client.messages:
                pass

    async def publish(self, topic: str, payload: str, *, qos: int = 1, retain: bool = True, timeout_s: float = _TIMEOUT_S) -> None:
        """Return when the broker has confirmed the message.

        Raises:
            aiomqtt.MqttError: it has not; the connection is lost, or it took too long.
        """
        sending = asyncio.create_task(self._client.publish(topic, payload, qos=qos, retain=retain, timeout=timeout_s))
        try:
            await asyncio.wait((sending, self._lost), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                raise aiomqtt.MqttError("the connection was lost")
            sending.result()
        finally:
            sending.cancel()

    async def close(self) -> None:
        """Disconnect, if it is still connected."""
        self._lost.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._lost
        with contextlib.suppress(aiomqtt.MqttError, OSError):
            await self._client.__aexit__(None, None, None)


def discovery(camera: str, topic: str, zones: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return Home Assistant's configuration of a camera, by topic: a sensor of people, and for each zone a sensor and an occupancy.

    Source: home-assistant.io/integrations/mqtt, "MQTT discovery".
    """
    node = f"posewire_{_id(camera)}"
    base = {
        "availability_topic": f"{topic}/availability",
        "state_topic": f"{topic}/state",
        "device": {"identifiers": [node], "name": camera, "manufacturer": "Posewire"},
    }

    def sensor(key: str, name: str, value: str) -> dict[str, Any]:
        return base | {"unique_id": f"{node}_{key}", "name": name, "value_template": value, "state_class": "measurement"}

    found = {f"homeassistant/sensor/{node}/people/config": sensor("people", "People", "{{ value_json.message.people }}")}
    for zone in zones:
        key, people = f"zone_{_id(zone)}", f"value_json.message.zones[{json.dumps(zone)}].people"
        found[f"homeassistant/sensor/{node}/{key}_people/config"] = sensor(f"{key}_people", f"People in {zone}", f"{{{{ {people} }}}}")
        found[f"homeassistant/binary_sensor/{node}/{key}/config"] = base | {
            "unique_id": f"{node}_{key}",
            "name": zone,
            "device_class": "occupancy",
            "value_template": f"{{{{ 'ON' if {people} > 0 else 'OFF' }}}}",
        }
    return found


def _level(name: str) -> str:
    """Return a name as one level of a topic."""
    return "".join("_" if c in "/+#$" or c.isspace() else c for c in name)


def _id(name: str) -> str:
    """Return a name in the letters that Home Assistant allows."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name).lower()
