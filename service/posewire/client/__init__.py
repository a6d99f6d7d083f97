"""Clients of a Posewire service.

    with PoseClient("http://127.0.0.1:8000") as client:
        [image] = client.pose(Path("street.jpg")).images
        for frame in client.video(Path("street.mp4")):
            ...
        with client.stream() as stream:
            for result in stream.results(frames):
                ...

`AsyncPoseClient` has the same methods for `await`. Both raise the errors of `posewire.errors`, as the service reports them.
"""

from posewire.client.answers import StreamResult
from posewire.client.blocking import PoseClient, PoseStream, PoseVideo
from posewire.client.inputs import Image
from posewire.client.requests import AsyncPoseClient
from posewire.client.stream import AsyncPoseStream
from posewire.client.video import AsyncPoseVideo, Video

__all__ = [
    "AsyncPoseClient",
    "AsyncPoseStream",
    "AsyncPoseVideo",
    "Image",
    "PoseClient",
    "PoseStream",
    "PoseVideo",
    "StreamResult",
    "Video",
]
