"""Ray Serve: dynamic batching (https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html), a replica a core, and the
throughput-optimised flags with a raised `max_ongoing_requests`
(https://docs.ray.io/en/latest/serve/advanced-guides/performance.html).

`num_cpus` is 0 for the replicas: Ray only counts them, and its own actors could not be placed beside.
"""

import signal
import sys

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from loadtests.peers.model import BATCH_WAIT_S, CORES, MAX_BATCH, Model


@serve.deployment(num_replicas=CORES, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
class Pose:
    """One replica."""

    def __init__(self) -> None:
        self.model = Model()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)  # type: ignore[untyped-decorator]
    async def infer(self, images: list[bytes]) -> list[bytes]:
        """A batch of images."""
        return self.model.answer(images)

    async def __call__(self, request: Request) -> Response:
        """Raw body in, ready-made JSON out."""
        return Response(await self.infer(await request.body()), media_type="application/json")


if __name__ == "__main__":
    ray.init(include_dashboard=False, object_store_memory=100 * 2**20, num_cpus=CORES, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False})
    serve.run(Pose.bind(), route_prefix="/pose")  # type: ignore[attr-defined] # the decorator has no types
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()  # not serve's: it waits half a minute for its controller
