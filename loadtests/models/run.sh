#!/bin/sh
# The table of peers, from nothing: an environment of its own and MediaPipe's networks under out/, then the race.
# Usage: loadtests/models/run.sh DATA [--movenet FILE.xml] [--plain FILE.onnx] [--rounds N]
set -eu
cd "$(dirname "$0")/../.."
room=out/peers
mkdir -p "$room"
if [ ! -e "$room/.made" ]; then
  "${PYTHON:-python3}" -m venv "$room/venv"
  "$room/venv/bin/pip" install --disable-pip-version-check -q -r loadtests/models/requirements.txt
  touch "$room/.made"
fi
if [ ! -e "$room/package/pose_landmark_heavy.tflite" ]; then
  (cd "$room" && npm pack --silent @mediapipe/pose@0.5.1675469404 >/dev/null && tar -xzf mediapipe-pose-0.5.1675469404.tgz)
fi
exec "$room/venv/bin/python" -m loadtests.models "$@" --blazepose "$room/package"
