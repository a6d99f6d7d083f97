"""LitServe, as its documentation says for CPUs: batching (https://lightning.ai/docs/litserve/features/batching), a worker process a
core (https://lightning.ai/docs/litserve/how-tos/parallelism-types) and the ZeroMQ queue for throughput (`fast_queue`).

The image is the raw body and the answer is ready-made JSON: no base64, no form, no second serialisation.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import litserve
from fastapi import Depends, Request, Response

from loadtests.peers.model import BATCH_WAIT_S, CORES, MAX_BATCH, Model


async def _body(request: Request) -> bytes:
    return await request.body()


class PoseAPI(litserve.LitAPI):  # type: ignore[misc] # no types here
    """Hooks that LitServe calls in its workers."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the models, once a worker."""
        self.model = Model()

    def decode_request(self, request: Annotated[bytes, Depends(_body)]) -> bytes:
        """The image as it came."""
        return request

    def batch(self, inputs: Sequence[bytes]) -> Sequence[bytes]:
        """No array to stack: images differ in size."""
        return inputs

    def predict(self, batch: Sequence[bytes]) -> list[bytes]:
        """A batch of images."""
        return self.model.answer(batch)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """One answer an image."""
        return output

    def encode_response(self, output: bytes) -> Any:
        """Ready-made JSON."""
        return Response(output, media_type="application/json")


if __name__ == "__main__":
    server = litserve.LitServer(
        PoseAPI(max_batch_size=MAX_BATCH, batch_timeout=BATCH_WAIT_S, api_path="/pose"),
        accelerator="cpu",
        workers_per_device=CORES,
        fast_queue=True,
        timeout=60,
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False, access_log=False)
