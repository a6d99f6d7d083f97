"""Stream a video file, frame by frame, and print one JSON line for each: who is where.

    python examples/video_file.py street.mp4 --url http://127.0.0.1:8000 > street.jsonl

Every frame is answered: the client waits for the service. With --live the file plays at its own speed, as a camera would,
and frames that the service has no time for are passed over.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from posewire.client import PoseClient
from posewire.errors import PosewireError


def frames(video: cv2.VideoCapture, *, live: bool) -> Iterator[bytes]:
    """Every frame as JPEG; at the file's own speed if `live`."""
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    started, count = time.monotonic(), 0
    while True:
        read, image = video.read()
        if not read:
            return
        if live:
            time.sleep(max(0.0, started + count / rate - time.monotonic()))
        count += 1
        yield cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def main() -> int:
    """Read, send, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--live", action="store_true", help="play at the file's own speed; the newest frame wins")
    options = parser.parse_args()
    video = cv2.VideoCapture(str(options.video))
    if not video.isOpened():
        parser.error(f"{options.video} cannot be opened as a video")
    try:
        with PoseClient(options.url) as client, client.stream() as stream:
            for result in stream.results(frames(video, live=options.live), every=not options.live):
                people = [{"track_id": p.track_id, "box": p.box, "score": p.score} for p in result.people]
                print(json.dumps({"frame": result.frame, "latency_ms": result.latency_ms, "people": people}))
    except PosewireError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
