// Commands and programs that do what the page does, with its address and its options. They are pure functions.

/**
 * @typedef {object} Use
 * @property {string} address of the service, with a slash at its end.
 * @property {boolean} key true: the service asks for an API key. The key itself is never in a text that is copied.
 * @property {'image' | 'video' | 'camera'} kind of the source.
 * @property {string} name of the file; '' for a camera.
 * @property {string} type media type of the file.
 * @property {boolean} smooth
 * @property {number} confidence 0..1; keypoints below it are left out.
 */

const KEY = 'POSEWIRE_API_KEY';

/** Quote a text for a POSIX shell. */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Quote a text for Python: JSON's strings are strings of Python. */
const python = (text) => JSON.stringify(text);

/** Return the file as an argument of curl; a name such as - has a meaning of its own there. */
const curlFile = (name) => `@${name.startsWith('-') ? './' : ''}${name}`;

/**
 * Return a command for a POSIX shell. A camera's frames cannot be sent by curl, so it sends an image.
 *
 * @param {Use} use
 */
export function curlFor({ address, key, kind, name, type, confidence }) {
  const path = kind === 'video' ? 'v1/video' : 'v1/pose';
  const file = kind === 'camera' ? { name: 'frame.jpg', type: 'image/jpeg' } : { name, type };
  const words = ['curl'];
  if (kind === 'video') words.push('-N');
  words.push('--data-binary', shell(curlFile(file.name)), '-H', shell(`Content-Type: ${file.type}`));
  if (key) words.push('-H', `"Authorization: Bearer $${KEY}"`);
  words.push(shell(`${address}${path}?min_keypoint_score=${confidence}`));
  return `${words.join(' ')}\n`;
}

/**
 * Return a program for Python.
 *
 * @param {Use} use
 */
export function pythonFor(use) {
  const client = `PoseClient(${python(use.address)}${use.key ? `, headers={"Authorization": f"Bearer {os.environ['${KEY}']}"}` : ''})`;
  return (use.kind === 'image' ? pythonForImage : pythonForFrames)(use, client, use.key ? 'import os\n' : '');
}

const PRINT_PEOPLE = (people, id) => `for person in ${people}:
    print(${id}person.score, person.box)
    for keypoint in person.keypoints:
        print("  ", keypoint.name, keypoint.x, keypoint.y, keypoint.score)`;

const indent = (text, spaces) => text.replaceAll(/^(?=.)/gm, ' '.repeat(spaces));

function pythonForImage({ name, confidence }, client, imports) {
  return `${imports}from pathlib import Path

from posewire import PoseClient  # pip install posewire

with ${client} as client:
    [image] = client.pose(Path(${python(name)}), min_keypoint_score=${confidence}).images

${PRINT_PEOPLE('image.people', '')}
`;
}

function pythonForFrames({ kind, name, smooth, confidence }, client, imports) {
  const options = `smooth=${smooth ? 'True' : 'False'}, min_keypoint_score=${confidence}`;
  const [source, every] = kind === 'video' ? [python(name), ', every=True'] : ['0', ''];
  return `${imports}from collections.abc import Iterator

import cv2  # pip install posewire opencv-python

from posewire import PoseClient


def frames() -> Iterator[bytes]:
    source = cv2.VideoCapture(${source})
    while True:
        read, frame = source.read()
        if not read:
            return
        yield cv2.imencode(".jpg", frame)[1].tobytes()


with ${client} as client, client.stream(${options}) as stream:
    for result in stream.results(frames()${every}):
${indent(PRINT_PEOPLE('result.people', 'result.frame, person.track_id, '), 8)}
`;
}
