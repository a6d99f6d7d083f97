// Requests to the service over HTTP, and the API key.

import { SourceError } from './sources.js';

const STORED = 'posewire.key';

/** The service needs a key, or rejected the present one. */
export class KeyNeeded extends SourceError {}

/** The storage of this tab; null if the browser forbids it. */
function storage() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

let key = storage()?.getItem(STORED) ?? '';

/** Use a key for all later requests of this tab. */
export function holdKey(given) {
  key = given;
  storage()?.setItem(STORED, key);
}

/** True if requests carry a key. */
export const keyed = () => key !== '';

/** The address of the service, with a slash at its end. */
export const address = () => new URL('.', document.baseURI).href;

/** The subprotocols of a WebSocket: the only way for a browser to send a key with it. */
export const subprotocols = () => (key ? ['posewire.v1', `posewire.key.${key}`] : []);

/**
 * Send a request; return its answer, which is no error.
 *
 * @param {string} path below the page's.
 * @param {RequestInit} options
 * @returns {Promise<Response>}
 */
export async function send(path, options = {}) {
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new SourceError('The server cannot be reached', 'Check that it runs and that you are online, then try again.');
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    const refused = key;
    holdKey('');
    throw new KeyNeeded('An API key is needed', refused ? body.detail : 'this service is for those who hold a key');
  }
  throw new SourceError(body.title ?? `The server answered ${answer.status}`, body.detail ?? 'Try again in a moment.');
}

/** Send a request; return the JSON of the answer. It takes what `send` takes. */
async function ask(path, options) {
  return (await send(path, options)).json();
}

/**
 * Return the served pose model: its keypoints and its skeleton.
 *
 * @param {AbortSignal} signal
 */
export async function poseModel(signal) {
  return (await ask('v1/models', { signal })).models.find(({ task }) => task === 'pose');
}

/**
 * Return the answer for one image.
 *
 * @param {Blob} file
 * @param {AbortSignal} signal
 * @returns {Promise<{images: {width: number, height: number, people: object[], timings_ms: object}[]}>}
 */
export function poseOfImage(file, signal) {
  return ask('v1/pose', { method: 'POST', body: file, headers: { 'Content-Type': typeOf(file) }, signal });
}

/** Return the media type of an image's file. */
export const typeOf = (file) => file.type || 'image/jpeg';
