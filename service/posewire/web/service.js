// The service over HTTP, and the key that opens it where it wants one.

import { SourceError } from './sources.js';

const STORED = 'posewire.key';

/** The service wants a key, or another one. */
export class KeyNeeded extends SourceError {}

/** For as long as this tab is open; null where the browser is told to keep nothing. */
function storage() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

let key = storage()?.getItem(STORED) ?? '';

/** Hold a key from now on. */
export function holdKey(given) {
  key = given;
  storage()?.setItem(STORED, key);
}

/** What a WebSocket offers: its only way to bring a key. */
export const subprotocols = () => (key ? ['posewire.v1', `posewire.key.${key}`] : []);

/**
 * The JSON that the service answers.
 *
 * @param {string} path below the page's.
 * @param {RequestInit} options
 */
async function ask(path, options = {}) {
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new SourceError('The server cannot be reached', 'Check that it runs and that you are online, then try again.');
  }
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  if (answer.status === 401) {
    const refused = key;
    holdKey('');
    throw new KeyNeeded('An API key is needed', refused ? body.detail : 'this service is for those who hold a key');
  }
  throw new SourceError(body.title ?? `The server answered ${answer.status}`, body.detail ?? 'Try again in a moment.');
}

/** The pose model that is served: its keypoints and its skeleton. */
export async function poseModel() {
  return (await ask('v1/models')).models.find(({ task }) => task === 'pose');
}

/**
 * Ask for the people of one picture.
 *
 * @param {Blob} file
 * @returns {Promise<{width: number, height: number, people: object[], timings_ms: object}>}
 */
export async function poseOfPicture(file) {
  const { images } = await ask('v1/pose', { method: 'POST', body: file, headers: { 'Content-Type': file.type || 'image/jpeg' } });
  return images[0];
}
