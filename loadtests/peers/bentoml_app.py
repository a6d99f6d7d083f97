"""BentoML: adaptive batching (https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html) and a worker a core
(https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html).

A batchable endpoint takes lists only, so a request is JSON with one base64 image: a form would write each to a file.
"""

import base64

import bentoml

from loadtests.peers.model import CORES, MAX_BATCH, Model


@bentoml.service(workers=CORES, traffic={"timeout": 60}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Pose:
    """The service that `bentoml serve` starts."""

    def __init__(self) -> None:
        self.model = Model()

    # The wait is the bound above which BentoML answers 503, not what it waits: it learns that from the traffic.
    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=60_000)  # type: ignore[untyped-decorator]
    def pose(self, images: list[str]) -> list[str]:
        """A batch of base64 images."""
        return [answer.decode() for answer in self.model.answer([base64.b64decode(image) for image in images])]
