"""A program that asks a service by KServe's clients, unchanged. It is a process of its own, in an environment that has kserve.

    python kserve_client.py HTTP_URL GRPC_ADDRESS IMAGE

Prints what both clients found, as one line of JSON.
"""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig


def request_of(image: bytes, binary: bool) -> InferRequest:
    """A request of one image."""
    images = InferInput("images", [1], "BYTES")
    if binary:
        images.set_data_from_numpy(np.array([image], np.object_), binary_data=True)
    else:
        images.set_data_from_numpy(np.array([base64.b64encode(image)], np.object_), binary_data=False)
    return InferRequest("posewire", [images], request_id="42", parameters={"max_people": 1, "min_detection_score": "0.5"})


def found_in(response: Any) -> dict[str, object]:
    """What is in an answer."""
    outputs = {output.name: output for output in response.outputs}
    return {"id": response.id, "boxes": outputs["boxes"].as_numpy().tolist(), "keypoints": list(outputs["keypoints"].shape)}


async def main(url: str, address: str, image: bytes) -> dict[str, object]:
    """Ask by both clients."""
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    rpc = InferenceGRPCClient(address)
    try:
        return {
            "rest": {
                "live": await rest.is_server_live(url),
                "ready": await rest.is_server_ready(url),
                "model_ready": await rest.is_model_ready(url, "posewire"),
                "other_ready": await rest.is_model_ready(url, "other"),
                "binary": found_in(await rest.infer(url, request_of(image, True), model_name="posewire")),
                "json": found_in(await rest.infer(url, request_of(image, False), model_name="posewire")),
            },
            "grpc": {
                "live": await rpc.is_server_live(),
                "ready": await rpc.is_server_ready(),
                "model_ready": await rpc.is_model_ready("posewire"),
                "infer": found_in(await rpc.infer(request_of(image, True))),
            },
        }
    finally:
        await rest.close()
        await rpc.close()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()))))
