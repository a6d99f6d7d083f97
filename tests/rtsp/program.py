"""An RTSP server on loopback: GStreamer's, with H.264 that plays in an endless loop.

The Python of the system runs it, for that has the bindings of GStreamer. Standard input has one line of JSON: `port`; `mounts`, a list with
`path`, `video` (a file of H.264 access units), `sizes` (bytes of each), `fps` and `transports`; `user` and `password`, or null. It prints
a line when it listens, and ends when its standard input ends.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

_ROLE = "viewer"
# The film has its headers at each key frame. With an interval, they would be sent before each slice of it, which no camera does: a decoder
# would take the slices for frames.
_PIPELINE = (
    "( appsrc name=frames is-live=true format=time do-timestamp=true"
    " caps=video/x-h264,stream-format=byte-stream,alignment=au,framerate={}/1"
    " ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=0 )"
)


class Mount:
    """One path, whose clients share one video."""

    def __init__(self, fields: dict[str, Any]) -> None:
        data = Path(fields["video"]).read_bytes()
        self._units: list[bytes] = []
        for size in fields["sizes"]:
            self._units.append(data[:size])
            data = data[size:]
        self._fps = float(fields["fps"])
        self.path = fields["path"]
        self.factory = GstRtspServer.RTSPMediaFactory()
        self.factory.set_launch(_PIPELINE.format(round(self._fps)))
        self.factory.set_shared(True)
        protocols = {"tcp": GstRtsp.RTSPLowerTrans.TCP, "udp": GstRtsp.RTSPLowerTrans.UDP}
        allowed = GstRtsp.RTSPLowerTrans(0)
        for name in fields["transports"]:
            allowed |= protocols[name]
        self.factory.set_protocols(allowed)
        self.factory.connect("media-configure", self._configure)

    def allow(self, role: str) -> None:
        """Let those who have the role watch it, and nobody else."""
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role(role, "media.factory.access", True)
        permissions.add_permission_for_role(role, "media.factory.construct", True)
        self.factory.set_permissions(permissions)

    def _configure(self, _: Any, media: Any) -> None:
        ended = threading.Event()
        media.connect("unprepared", lambda _: ended.set())
        frames = media.get_element().get_by_name("frames")
        threading.Thread(target=self._push, args=(frames, ended), daemon=True).start()

    def _push(self, frames: Any, ended: threading.Event) -> None:
        due, number = time.monotonic(), 0
        while not ended.is_set():
            if frames.emit("push-buffer", Gst.Buffer.new_wrapped(self._units[number % len(self._units)])) != Gst.FlowReturn.OK:
                return
            number += 1
            due = max(due + 1 / self._fps, time.monotonic())  # after a SIGSTOP it does not catch up
            ended.wait(due - time.monotonic())


def main() -> None:
    """Serve until standard input ends."""
    Gst.init(None)
    fields = json.loads(sys.stdin.readline())
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(fields["port"]))
    if fields["user"] is not None:
        token = GstRtspServer.RTSPToken()
        token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, _ROLE)
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(fields["user"], fields["password"], token)
        server.set_auth(auth)
    mounts = [Mount(mount) for mount in fields["mounts"]]
    for mount in mounts:
        if fields["user"] is not None:
            mount.allow(_ROLE)
        server.get_mount_points().add_factory(mount.path, mount.factory)
    if not server.attach(None):
        sys.exit(f"the port {fields['port']} is in use")
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    loop.run()


if __name__ == "__main__":
    main()
