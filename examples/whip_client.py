"""Send a video file over WebRTC (WHIP), and print one JSON line for each result: who is where.

    pip install 'posewire[webrtc]'
    python examples/whip_client.py street.mp4 --url http://127.0.0.1:8000 > street.jsonl

The file plays at its own speed, as a camera would. The newest frame wins: frames that the service has no time for are left out.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import httpx
from aiortc import MediaStreamTrack, RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer

QUIET_S = 3.0  # after the last frame, its result has come by then


async def publish(video: MediaStreamTrack, url: str, key: str | None) -> None:
    """Send a track until it ends.

    Raises:
        httpx.HTTPStatusError: the service refuses it.
        RuntimeError: the service has ended the session.
    """
    headers = {"Content-Type": "application/sdp"} | ({"Authorization": f"Bearer {key}"} if key else {})
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))  # add STUN servers if you are behind a NAT
    results = peer.createDataChannel("posewire")  # before the offer, so that the offer has it
    peer.addTransceiver(video, "sendonly")
    await peer.setLocalDescription(await peer.createOffer())
    async with httpx.AsyncClient(headers=headers, timeout=60) as http:
        answer = await http.post(f"{url}/v1/whip", content=peer.localDescription.sdp)
        answer.raise_for_status()
        session = answer.request.url.join(answer.headers["Location"])
        try:
            await peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
            await print_results(results, video)
        finally:
            await peer.close()
            await http.delete(session)


async def print_results(results: RTCDataChannel, video: MediaStreamTrack) -> None:
    """Print what arrives until the video has ended and no more results come."""
    messages: asyncio.Queue[str] = asyncio.Queue()
    ended = asyncio.Event()
    results.on("message", messages.put_nowait)
    video.on("ended", ended.set)
    while True:
        try:
            async with asyncio.timeout(QUIET_S):
                message = json.loads(await messages.get())
        except TimeoutError:
            if ended.is_set():
                return
            continue
        if message["type"] == "ended":
            raise RuntimeError(message["problem"]["detail"])
        if message["type"] == "result":
            people = [{name: person[name] for name in ("track_id", "box", "score", "keypoints")} for person in message["people"]]
            print(json.dumps({"seconds": message["pts_s"], "age_ms": message["age_ms"], "people": people}), flush=True)


def main() -> int:
    """Read, send, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    options = parser.parse_args()
    if not options.video.is_file():
        parser.error(f"{options.video} cannot be opened as a video")
    player = MediaPlayer(str(options.video))
    if player.video is None:
        parser.error(f"{options.video} has no video")
    try:
        asyncio.run(publish(player.video, options.url, os.environ.get("POSEWIRE_API_KEY")))
    except httpx.HTTPStatusError as error:
        print(error.response.text, file=sys.stderr)
        return 1
    except (httpx.HTTPError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
