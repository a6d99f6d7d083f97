"""The stream of the ROS 2 example to a real service, which is restarted and which rejects it."""

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from posewire.server.auth import new_key
from posewire_ros.stream import Answer, ServiceStream
from tests.sample_images import ASTRONAUT
from tests.server_process import serve
from tests.sinks.receivers import free_port

JPEG = ASTRONAUT.read_bytes()


class Receiver:
    """What a stream tells."""

    def __init__(self) -> None:
        self.answers: queue.Queue[Answer] = queue.Queue()
        self.notes: queue.Queue[str] = queue.Queue()
        self.failures: queue.Queue[str] = queue.Queue()


@contextmanager
def streaming(url: str, api_key: str | None = None) -> Iterator[tuple[ServiceStream, Receiver]]:
    told = Receiver()
    stream = ServiceStream(
        url, api_key, {"max_people": 1}, on_answer=told.answers.put, on_note=told.notes.put, on_failure=told.failures.put
    )
    try:
        yield stream, told
    finally:
        stream.close()


def answer_of(stream: ServiceStream, told: Receiver, header: str, image: bytes = JPEG) -> Answer:
    """Offer an image, as a camera does, until one with this header is answered."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        stream.offer(image, header)
        try:
            answer = told.answers.get(timeout=0.2)
        except queue.Empty:
            continue
        if answer.header == header:
            return answer
    raise AssertionError(f"no answer: {list(told.notes.queue)} {list(told.failures.queue)}")


def test_answers_have_the_header_of_their_image_and_a_restart_of_the_service_is_survived() -> None:
    port = str(free_port())
    with streaming(f"http://127.0.0.1:{port}") as (stream, told):
        assert "trying again" in told.notes.get(timeout=60)
        with serve(port, workers="0"):
            before = answer_of(stream, told, "before")
            assert len(before.result.people) == 1
            assert len(before.names) == 17
            assert all(max(limb) < 17 for limb in before.limbs)
        with serve(port, workers="0"):
            after = answer_of(stream, told, "after")
        assert after.connection > before.connection
        assert told.failures.empty()


def test_an_image_that_cannot_be_decoded_is_told_and_the_next_one_is_answered() -> None:
    with serve(workers="0") as server, streaming(server.url) as (stream, told):
        answer_of(stream, told, "first")
        stream.offer(JPEG[:500] + b"\x00" * 500, "broken")
        assert "no answer" in told.notes.get(timeout=60)
        assert answer_of(stream, told, "next").result.error is None
        assert told.failures.empty()


@pytest.mark.parametrize("right", [False, True], ids=["a wrong key", "the right key"])
def test_a_key_is_sent_and_a_wrong_one_is_a_failure_that_stays(tmp_path: Path, right: bool) -> None:
    key, line = new_key("robot")
    (tmp_path / "keys").write_text(f"{line}\n")
    keys = str(tmp_path / "keys")
    with serve(workers="0", api_keys_file=keys) as server, streaming(server.url, key if right else "wrong") as (stream, told):
        if right:
            assert answer_of(stream, told, "image").result.people
        else:
            assert "key" in told.failures.get(timeout=60)
            stream.offer(JPEG, "image")  # and nothing happens
            assert told.answers.empty()
