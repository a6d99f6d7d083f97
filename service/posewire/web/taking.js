// Saves images, and copies texts.

import { drawPeople } from './skeleton.js';

/**
 * Save an image with its skeletons as a file.
 *
 * @param {ImageBitmap | HTMLImageElement} image
 * @param {{width: number, height: number, people: object[]}} answer of this image; the file has its size, in pixels.
 * @param {object} look as for `draw`.
 * @param {'image/png' | 'image/jpeg'} type
 * @param {string} name of the file, without an extension.
 */
export async function saveImage(image, answer, look, type, name) {
  const canvas = document.createElement('canvas');
  const { width, height } = size(image, answer);
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d', { alpha: false });
  if (look.mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(image, 0, 0, width, height);
  context.resetTransform();
  drawPeople(context, answer, look, Math.max(1, Math.max(width, height) / 900));
  const blob = await new Promise((done) => canvas.toBlob(done, type, 0.92));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${name}.${type === 'image/png' ? 'png' : 'jpg'}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may still read it after the click
}

/** A frame was sent smaller than it is shown; its file has the size that is shown. */
function size(image, answer) {
  return image instanceof ImageBitmap ? image : answer;
}

/**
 * Copy a text; return true if it was copied. Else a dialog shows it, selected, so that the user can copy it.
 *
 * Browsers give the clipboard to secure addresses only.
 */
export async function copyText(title, text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    document.getElementById('copy-title').textContent = title;
    document.getElementById('copy-text').value = text;
    document.getElementById('copy').showModal();
    document.getElementById('copy-text').select();
    return false;
  }
}

document.getElementById('copy-close').addEventListener('click', () => document.getElementById('copy').close());
