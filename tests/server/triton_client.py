"""A program that asks a service by Triton's clients, unchanged. It is a process of its own: the HTTP client patches sockets.

    python triton_client.py HTTP_ADDRESS GRPC_ADDRESS IMAGE

Prints what both clients found, as one line of JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException


def ask(module: Any, address: str, image: bytes) -> dict[str, object]:
    """Everything that the client can ask of the service."""
    client = module.InferenceServerClient(address)
    images = module.InferInput("images", [2], "BYTES")
    images.set_data_from_numpy(np.array([image, image], np.object_))
    wanted = [module.InferRequestedOutput(name) for name in ("boxes", "people_count", "people")]
    everything = client.infer("posewire", [images], request_id="42")
    some = client.infer("posewire", [images], model_version="1", outputs=wanted, parameters={"max_people": 1, "min_keypoint_score": 0.5})
    boxes = module.InferInput("boxes", [2, 4], "FP32")
    boxes.set_data_from_numpy(np.array([[70, 5, 300, 500]] * 2, np.float32))
    counts = module.InferInput("boxes_count", [2], "INT32")
    counts.set_data_from_numpy(np.array([1, 1], np.int32))
    boxed = client.infer("posewire", [images, boxes, counts])
    try:
        client.infer("other", [images])
        refused = ""
    except InferenceServerException as error:
        refused = error.message()
    metadata = client.get_model_metadata("posewire", **({"as_json": True} if module is tritonclient.grpc else {}))
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready() and client.is_model_ready("posewire") and client.is_model_ready("posewire", "1"),
        "other_ready": is_ready(client, "other"),
        "inputs": [tensor["name"] for tensor in metadata["inputs"]],
        "id": (everything.get_response()["id"] if module is tritonclient.http else everything.get_response().id),
        "people_count": everything.as_numpy("people_count").tolist(),
        "boxes": everything.as_numpy("boxes").tolist(),
        "keypoints": list(everything.as_numpy("keypoints").shape),
        "some_boxes": some.as_numpy("boxes").tolist(),
        "some_people": [len(json.loads(text)["people"]) for text in some.as_numpy("people")],
        "not_asked_for": some.as_numpy("keypoints") is None,
        "given_boxes": boxed.as_numpy("boxes").tolist(),
        "refused": refused,
    }
    client.close()
    return found


def is_ready(client: Any, model: str) -> bool:
    """Triton's gRPC client raises for an unknown model."""
    try:
        return bool(client.is_model_ready(model))
    except InferenceServerException:
        return False


def plain_json(address: str, image: bytes) -> object:
    """The JSON form, which Triton's client sends where it is told to; images are base64 there."""
    import base64  # noqa: PLC0415

    client = tritonclient.http.InferenceServerClient(address)
    images = tritonclient.http.InferInput("images", [1], "BYTES")
    images.set_data_from_numpy(np.array([base64.b64encode(image)], np.object_), binary_data=False)
    output = tritonclient.http.InferRequestedOutput("boxes", binary_data=False)
    result = client.infer("posewire", [images], outputs=[output], request_compression_algorithm="gzip")
    return result.as_numpy("boxes").tolist()


if __name__ == "__main__":
    http, rpc, path = sys.argv[1:]
    data = Path(path).read_bytes()
    report = {
        "http": ask(tritonclient.http, http, data),
        "grpc": ask(tritonclient.grpc, rpc, data),
        "json": plain_json(http, data),
    }
    sys.stdout.write(json.dumps(report))
