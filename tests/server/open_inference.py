"""What the tests of the Open Inference Protocol share: requests and answers in JSON and in the binary form."""

import base64
import json
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from tests.server.support import Api

LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/posewire/infer"
DTYPES = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4")}


def bytes_tensor(*elements: bytes) -> bytes:
    """The binary form of a BYTES tensor."""
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def tensor(name: str, datatype: str, shape: list[int], data: object) -> dict[str, Any]:
    """An input in JSON, or described only if its data are bytes."""
    found: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    return found | ({"parameters": {"binary_data_size": len(data)}} if isinstance(data, bytes) else {"data": data})


def in_json(*images: bytes) -> dict[str, Any]:
    """The images as base64."""
    return tensor("images", "BYTES", [len(images)], [base64.b64encode(image).decode() for image in images])


def in_binary(*images: bytes) -> dict[str, Any]:
    """The description of images that follow as `bytes_tensor`."""
    return tensor("images", "BYTES", [len(images)], bytes_tensor(*images))


async def infer(api: Api, request: dict[str, Any], binary: bytes | None = None, headers: dict[str, str] | None = None) -> httpx.Response:
    """POST a request, with the binary form of its tensors behind it if there is any."""
    head = json.dumps(request).encode()
    length = {} if binary is None else {LENGTH: str(len(head))}
    return await api.client.post(INFER, content=head + (binary or b""), headers=length | (headers or {}))


def arrays(answer: httpx.Response) -> dict[str, npt.NDArray[Any] | list[bytes]]:
    """The outputs of a good answer; BYTES as a list."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get(LENGTH, len(answer.content)))
    described, binary = json.loads(answer.content[:length]), answer.content[length:]
    found: dict[str, npt.NDArray[Any] | list[bytes]] = {}
    for output in described["outputs"]:
        if "data" in output:
            data = output["data"]
            found[output["name"]] = [text.encode() for text in data] if output["datatype"] == "BYTES" else array(output, np.array(data))
            continue
        size = output["parameters"]["binary_data_size"]
        raw, binary = binary[:size], binary[size:]
        assert len(raw) == size
        found[output["name"]] = (
            elements(raw) if output["datatype"] == "BYTES" else array(output, np.frombuffer(raw, DTYPES[output["datatype"]]))
        )
    assert binary == b""
    return found


def array(output: dict[str, Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(DTYPES[output["datatype"]]).reshape(output["shape"])


def elements(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        found.append(raw[4:end])
        assert len(raw) >= end
        raw = raw[end:]
    return found


def assert_error(answer: httpx.Response, status: int, says: str) -> None:
    """It is an error of the protocol: one text, and nothing else."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json"), answer.text
    assert answer.json().keys() == {"error"}
    assert says in answer.json()["error"], answer.text
    assert answer.json()["error"].isprintable()
    assert answer.headers["X-Request-Id"]
