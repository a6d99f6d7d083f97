// Sources of frames: a camera or a video file. Frames are encoded as JPEG.

const LONGEST_SIDE = 640; // pixels of a sent frame; the models use fewer
const JPEG_QUALITY = 0.8;

/** A source that cannot be used; `title` and `message` are for the person at the screen. */
export class SourceError extends Error {
  constructor(title, message) {
    super(message);
    this.title = title;
  }
}

const CAMERA_ERRORS = {
  NotAllowedError: ['Camera permission refused', 'Allow the camera for this page in the browser’s address bar, then try again.'],
  NotFoundError: ['No camera found', 'Connect a camera, or open a video or a picture instead.'],
  OverconstrainedError: ['No camera found', 'Connect a camera, or open a video or a picture instead.'],
  NotReadableError: ['The camera is in use', 'Close the other program that uses the camera, then try again.'],
};

/**
 * Start a camera on a video element.
 *
 * @param {HTMLVideoElement} video
 * @param {'user' | 'environment'} facing
 * @returns {Promise<{front: boolean, several: boolean}>} front: the camera faces the user; several: there are other cameras.
 */
export async function openCamera(video, facing) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new SourceError(
      'Not a secure address',
      'Browsers give the camera to https:// pages and to localhost only. Open this page that way; videos and pictures work here too.',
    );
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
    });
  } catch (error) {
    throw new SourceError(...(CAMERA_ERRORS[error.name] ?? ['The camera does not start', error.message]));
  }
  video.srcObject = stream;
  await video.play();
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === 'videoinput');
  const actual = stream.getVideoTracks()[0].getSettings().facingMode;
  return { front: (actual ?? facing) === 'user', several: cameras.length > 1 };
}

/** Play a video file in a loop on a video element. */
export async function openVideo(video, file) {
  video.src = URL.createObjectURL(file);
  video.loop = true;
  try {
    await video.play();
  } catch {
    throw new SourceError('The video cannot be played', `This browser does not play ${file.name}. MP4 (H.264) and WebM work nearly everywhere.`);
  }
}

/** Stop the camera and close the file. */
export function release(video) {
  video.pause();
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute('src');
  video.load();
}

/** Call `onFrame` at every new frame of the video, until the returned function is called. */
export function eachFrame(video, onFrame) {
  let stopped = false;
  let last = -1;
  const next = () => (video.requestVideoFrameCallback ? video.requestVideoFrameCallback(step) : requestAnimationFrame(step));
  const step = () => {
    if (stopped) return;
    if (video.requestVideoFrameCallback || video.currentTime !== last) onFrame();
    last = video.currentTime;
    next();
  };
  next();
  return () => {
    stopped = true;
  };
}

/** Encodes the present frame of a video as JPEG. */
export class Grabber {
  #canvas = document.createElement('canvas');
  busy = false;

  /** @returns {Promise<ArrayBuffer | null>} null: the video has no frame yet. */
  async grab(video) {
    const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
    const width = Math.round(video.videoWidth * scale);
    const height = Math.round(video.videoHeight * scale);
    if (!width || !height) return null;
    if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
    this.busy = true;
    try {
      this.#canvas.getContext('2d', { alpha: false }).drawImage(video, 0, 0, width, height);
      const blob = await new Promise((done) => this.#canvas.toBlob(done, 'image/jpeg', JPEG_QUALITY));
      return blob && (await blob.arrayBuffer());
    } finally {
      this.busy = false;
    }
  }
}
