// What callers send.

/** The bytes of one encoded image: JPEG, PNG, WebP or BMP. */
export type Encoded = Blob | ArrayBuffer | ArrayBufferView;

/** Throw a TypeError for anything but bytes, such as a path or a canvas. */
export function requireEncoded(data: unknown): asserts data is Encoded {
  if (data instanceof Blob || data instanceof ArrayBuffer || ArrayBuffer.isView(data)) return;
  throw new TypeError('an image is the bytes of a JPEG, PNG, WebP or BMP file: a Blob, an ArrayBuffer or a typed array');
}
