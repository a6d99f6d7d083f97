"""Show the skeletons of everyone in front of a webcam; q or Escape ends it.

    pip install posewire opencv-python
    python examples/webcam.py --url http://127.0.0.1:8000 --camera 0

The camera is read as fast as it gives images; the client sends the newest whenever the service is ready for one.
"""

import argparse
from collections.abc import Iterator
from itertools import count

import cv2
from cv2.typing import MatLike

from posewire.client import PoseClient, PoseStream, StreamResult

MIN_SCORE = 0.2
GREEN, WHITE = (180, 234, 94), (255, 255, 255)  # BGR


def draw(image: MatLike, result: StreamResult, stream: PoseStream) -> None:
    """Draw everyone on a BGR image."""
    names, font = stream.started.keypoints, cv2.FONT_HERSHEY_SIMPLEX
    for person in result.people:
        points = {k.name: (round(k.x), round(k.y)) for k in person.keypoints if k.score >= MIN_SCORE}
        for a, b in stream.started.skeleton:
            if names[a] in points and names[b] in points:
                cv2.line(image, points[names[a]], points[names[b]], GREEN, 3, cv2.LINE_AA)
        x, y, _, _ = person.box
        cv2.putText(image, str(person.track_id), (round(x), max(20, round(y))), font, 0.7, WHITE, 2, cv2.LINE_AA)
    cv2.putText(image, f"{result.latency_ms:.0f} ms", (10, 24), font, 0.7, WHITE, 2, cv2.LINE_AA)


def main() -> None:
    """Read, send, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--camera", type=int, default=0)
    options = parser.parse_args()
    camera = cv2.VideoCapture(options.camera)
    if not camera.isOpened():
        parser.error(f"camera {options.camera} cannot be opened")
    images: dict[int, MatLike] = {}  # by number of the frame, until it or a later one is answered

    def frames() -> Iterator[bytes]:
        for number in count():
            read, image = camera.read()
            if not read:
                return
            images[number] = image
            yield cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()

    with PoseClient(options.url) as client, client.stream() as stream:
        for result in stream.results(frames()):
            image = images[result.frame]
            for number in [number for number in images if number <= result.frame]:
                del images[number]
            draw(image, result, stream)
            cv2.imshow("Posewire", image)
            if cv2.waitKey(1) in (ord("q"), 27):
                break
    camera.release()


if __name__ == "__main__":
    main()
