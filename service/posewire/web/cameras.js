// Requests about the cameras that the service watches. Keys are sent as headers, so images come by fetch: `<img>` cannot send any.

import { send } from './service.js';

const JSON_BODY = { 'Content-Type': 'application/json' };
const CR_LF = '\r\n';
const HEAD_END = `${CR_LF}${CR_LF}`;

const pathOf = (name) => `v1/cameras/${encodeURIComponent(name)}`;

/** Return all cameras, by name. */
export async function listCameras(signal) {
  return (await (await send('v1/cameras', { signal })).json()).cameras;
}

/** Return one camera. */
export async function getCamera(name) {
  return (await send(pathOf(name))).json();
}

/** Add a camera; `spec` has its name, its source and its options. */
export async function addCamera(spec) {
  await send('v1/cameras', { method: 'POST', body: JSON.stringify(spec), headers: JSON_BODY });
}

/** Change the given fields of a camera. */
export async function changeCamera(name, patch) {
  await send(pathOf(name), { method: 'PATCH', body: JSON.stringify(patch), headers: JSON_BODY });
}

/** Remove a camera. */
export async function removeCamera(name) {
  await send(pathOf(name), { method: 'DELETE' });
}

/**
 * Return the newest image of a camera, with skeletons.
 *
 * @returns {Promise<ImageBitmap>}
 */
export async function snapshotOf(name, signal) {
  return createImageBitmap(await (await send(`${pathOf(name)}/snapshot`, { signal })).blob());
}

/**
 * Return the images of a camera, with skeletons, as they come, until the camera is changed or removed.
 *
 * @returns {Promise<AsyncGenerator<ImageBitmap>>}
 */
export async function liveImages(name, signal) {
  return imagesOf(await send(`${pathOf(name)}/live`, { signal }));
}

/** Yield the newest image of a multipart body whenever more of it has come. */
async function* imagesOf(answer) {
  let held = new Uint8Array(0);
  for await (const chunk of chunksOf(answer)) {
    held = joined(held, chunk);
    let newest = null;
    for (let part = firstPart(held); part; part = firstPart(held)) {
      newest = part.data;
      held = held.subarray(part.end);
    }
    if (newest) yield createImageBitmap(new Blob([newest], { type: 'image/jpeg' }));
  }
}

/**
 * Return the events of all cameras: some earlier ones first, then each as it happens.
 *
 * @param {{recent: number, after: string | null}} known the most earlier events; the id of the last event that is known.
 * @param {AbortSignal} signal
 * @returns {Promise<AsyncGenerator<{id: string, camera: string, time: string, message: object}>>}
 */
export async function cameraEvents({ recent, after }, signal) {
  const headers = after ? { 'Last-Event-ID': after } : {};
  return eventsOf(await send(`v1/cameras/events?recent=${recent}`, { signal, headers }));
}

/** Yield the events of a body of server-sent events. */
async function* eventsOf(answer) {
  const decoder = new TextDecoder();
  let held = '';
  for await (const chunk of chunksOf(answer)) {
    held += decoder.decode(chunk, { stream: true });
    const blocks = held.split('\n\n');
    held = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]));
      if (fields.data) yield { id: fields.id, ...JSON.parse(fields.data) };
    }
  }
}

/** Yield the bytes of an answer as they come. Not every browser can iterate over a stream itself. */
async function* chunksOf(answer) {
  const reader = answer.body.getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    reader.cancel().catch(() => {}); // the connection may be lost already
  }
}

function joined(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** Return the data of the first part of a multipart body, and where the next part begins; null: it is not complete yet. */
function firstPart(bytes) {
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, 300));
  const head = text.indexOf(HEAD_END);
  if (head < 0) return null;
  const start = head + HEAD_END.length;
  const end = start + Number(/Content-Length: (\d+)/i.exec(text)[1]);
  return bytes.length < end + CR_LF.length ? null : { data: bytes.subarray(start, end), end: end + CR_LF.length };
}
