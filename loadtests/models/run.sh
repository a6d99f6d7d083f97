#!/bin/sh
# The tables of peers and the plot, from nothing: an environment of its own, MediaPipe's networks and our models of before under out/,
# then the race. Usage: loadtests/models/run.sh DATA [--movenet FILE.xml] [--yolox FILE.onnx] [--plain FILE.onnx] [--out docs] [--rounds N]
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
before=f586962 # the last commit before the defaults changed
if [ ! -e "$room/before/model_store" ]; then
  mkdir -p "$room/before"
  git archive "$before" model_store/manifest.toml model_store/weights | tar -x -C "$room/before"
fi
exec "$room/venv/bin/python" -m loadtests.models "$@" --blazepose "$room/package" --store "$room/before/model_store"
