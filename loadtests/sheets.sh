#!/bin/sh
# Makes the contact sheets of docs/accuracy.md again: fetches the images and the models of before under out/sheets, then draws.
# Needs apt-get, dpkg-deb, pip and git, and an environment with Posewire. Usage: loadtests/sheets.sh
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
before=f586962 # the last commit before the defaults changed; people counted from a detection score of 0.4
room=$PWD/out/sheets
mkdir -p "$room"
if [ ! -e "$room/.fetched" ]; then
  (cd "$room" && apt-get download opencv-doc && dpkg-deb -x opencv-doc_*.deb opencv)
  "$python" -m pip download --disable-pip-version-check -q --no-deps --only-binary :all: -d "$room" scikit-image
  "$python" -m zipfile -e "$room"/scikit_image-*.whl "$room/skimage"
  git archive "$before" model_store/manifest.toml model_store/weights | tar -x -C "$room"
  touch "$room/.fetched"
fi
opencv=$room/opencv/usr/share/doc/opencv-doc/examples
skimage=$room/skimage/skimage/data

sheet() {
  name=$1
  shift
  "$python" -m loadtests.sheets "$@" --out "docs/$name.jpg" \
    --models "before=$room/model_store:persondet-320:litehrnet18-128x96:0.4" --models "now=${NOW:-}"
}

sheet sheet-people --row-height 290 tests/data/astronaut.jpg "$opencv/data/messi5.jpg" "$opencv/data/basketball1.png" \
  "$skimage/camera.png" "$opencv/data/left01.jpg" "$opencv/text/scenetext01.jpg"
sheet sheet-street --row-height 520 "$opencv/data/vtest.avi@50" "$opencv/data/vtest.avi@700"
sheet sheet-nobody --row-height 220 "$skimage/coffee.png" "$skimage/chelsea.png" "$skimage/rocket.jpg" "$skimage/horse.png" \
  "$opencv/hfs/data/000.jpg" "$opencv/hfs/data/002.jpg" "$opencv/data/board.jpg" "$opencv/text/scenetext05.jpg"
