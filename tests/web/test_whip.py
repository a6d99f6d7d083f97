"""WHIP from a real Chromium, whose camera is a film of the astronaut."""

from tests.server.streaming import Listen
from tests.web.conftest import OpenPage

PUBLISH = """async () => {
  const camera = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  const peer = new RTCPeerConnection();
  const messages = [];
  const channel = peer.createDataChannel("posewire");
  const enough = new Promise((done) => {
    channel.onmessage = (event) => {
      messages.push(JSON.parse(event.data));
      if (messages.filter((message) => message.type === "result").length === 5) done();
    };
  });
  peer.addTransceiver(camera.getVideoTracks()[0], { direction: "sendrecv" });
  const drawn = new Promise((done) => {
    peer.ontrack = (event) => {
      const video = document.createElement("video");
      video.muted = true;
      video.srcObject = new MediaStream([event.track]);
      video.requestVideoFrameCallback((_, frame) => done([frame.width, frame.height]));
      video.play();
    };
  });
  await peer.setLocalDescription();
  const answer = await fetch("/v1/whip?max_people=1", {
    method: "POST", headers: { "Content-Type": "application/sdp" }, body: peer.localDescription.sdp,
  });
  if (answer.status !== 201) return { problem: await answer.text() };
  const session = new URL(answer.headers.get("Location"), answer.url);
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await enough;
  const size = await drawn;
  const deleted = await fetch(session, { method: "DELETE" });
  return { messages, size, deleted: deleted.status };
}"""


async def test_a_browser_gets_people_and_its_drawn_video(listen: Listen, open_page: OpenPage, complaints: list[str]) -> None:
    server = await listen(stream_deadline_ms=30_000)
    page = await open_page(server.url, complaints)
    found = await page.evaluate(PUBLISH)
    assert "problem" not in found, found["problem"]
    started, *others = found["messages"]
    results = [message for message in others if message["type"] == "result"]
    assert started["type"] == "started"
    assert [message["seq"] for message in results] == sorted({message["seq"] for message in results})
    people = [len(message["people"]) for message in results]
    assert people.count(1) >= 3, people  # the first frames of a connection are coarse, and the film jumps at its end
    assert found["size"][0] > found["size"][1] > 0
    assert found["deleted"] == 200
