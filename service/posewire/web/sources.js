// Sources of frames: a camera or a video file. Frames are encoded as JPEG.

const LONGEST_SENT = 640; // pixels; the models use fewer
const LONGEST_KEPT = 1280; // pixels; the frame is shown and saved
const JPEG_QUALITY = 0.8;

/** A source that cannot be used; `title` and `message` are for the person at the screen. */
export class SourceError extends Error {
  constructor(title, message) {
    super(message);
    this.title = title;
  }
}

const NOT_SECURE = [
  'Not a secure address',
  'Browsers give the camera to https:// pages and to localhost only. Open this page that way; videos and images work here too.',
];
const REFUSED = ['Camera permission refused', 'Allow the camera for this page in the browser’s address bar, then try again.'];
const NONE = ['No camera found', 'Connect a camera, or open a video or an image instead.'];
const CAMERA_ERRORS = {
  NotAllowedError: REFUSED,
  NotFoundError: NONE,
  OverconstrainedError: NONE,
  NotReadableError: ['The camera is in use', 'Close the other program that uses the camera, then try again.'],
};

const canAskForCamera = () => window.isSecureContext && Boolean(navigator.mediaDevices);

/** Return why the camera would not start, as [title, text]; null: nothing speaks against it. It asks the user for nothing. */
export async function cameraObstacle() {
  if (!canAskForCamera()) return NOT_SECURE;
  const devices = await navigator.mediaDevices.enumerateDevices();
  if (!devices.some(({ kind }) => kind === 'videoinput')) return NONE;
  // Some browsers do not know this permission.
  const permission = await navigator.permissions.query({ name: 'camera' }).catch(() => null);
  return permission?.state === 'denied' ? REFUSED : null;
}

/**
 * Start a camera on a video element.
 *
 * @param {HTMLVideoElement} video
 * @param {'user' | 'environment'} facing
 * @returns {Promise<{front: boolean, several: boolean}>} front: the camera faces the user; several: there are other cameras.
 */
export async function openCamera(video, facing) {
  if (!canAskForCamera()) throw new SourceError(...NOT_SECURE);
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

/** Return the size of an image, scaled down to a limit of its longer side. */
function limit({ width, height }, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return { width: Math.round(width * scale), height: Math.round(height * scale) };
}

/** Takes the present frame of a video, and encodes it as JPEG. */
export class Grabber {
  #canvas = document.createElement('canvas');
  busy = false;

  /**
   * @returns {Promise<{data: ArrayBuffer, frame: {image: ImageBitmap, captured: number}} | null>} the JPEG, and the same frame to show,
   *   with the time of its capture (performance.now(), ms). Close the image when it is no longer needed. null: the video has no frame yet.
   */
  async grab(video) {
    const whole = { width: video.videoWidth, height: video.videoHeight };
    if (!whole.width) return null;
    this.busy = true;
    const captured = performance.now();
    try {
      const kept = limit(whole, LONGEST_KEPT);
      const resize = kept.width < whole.width ? { resizeWidth: kept.width, resizeHeight: kept.height } : {};
      const image = await createImageBitmap(video, resize);
      const sent = limit(image, LONGEST_SENT);
      if (this.#canvas.width !== sent.width || this.#canvas.height !== sent.height) Object.assign(this.#canvas, sent);
      this.#canvas.getContext('2d', { alpha: false }).drawImage(image, 0, 0, sent.width, sent.height);
      const blob = await new Promise((done) => this.#canvas.toBlob(done, 'image/jpeg', JPEG_QUALITY));
      return { data: await blob.arrayBuffer(), frame: { image, captured } };
    } finally {
      this.busy = false;
    }
  }
}
