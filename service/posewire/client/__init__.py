"""Clients of a Posewire service.

    with PoseClient("http://127.0.0.1:8000") as client:
        [image] = client.pose(Path("street.jpg")).images
        with client.stream() as stream:
            for result in stream.results(frames):
                ...

`AsyncPoseClient` has the same methods for `await`. Both raise the errors of `posewire.errors`, as the service reports them.
"""

from posewire.client.answers import StreamResult
from posewire.client.blocking import PoseClient, PoseStream
from posewire.client.inputs import Picture
from posewire.client.requests import AsyncPoseClient
from posewire.client.stream import AsyncPoseStream

__all__ = ["AsyncPoseClient", "AsyncPoseStream", "Picture", "PoseClient", "PoseStream", "StreamResult"]
