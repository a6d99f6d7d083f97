// What a camera shows: its state and its figures in words, its tile in the wall, and its newest image.

export const STATES = {
  off: 'Paused',
  connecting: 'Connecting',
  live: 'Live',
  waiting: 'Waiting',
  ended: 'Ended',
  failed: 'Failed',
  unknown: 'Not known', // while the service does not answer
};
const EXPLANATIONS = {
  off: 'It is not watched.',
  connecting: 'No frame has come yet.',
  ended: 'The file is at its end.',
};
const NONE = '–';
const RATE_SPAN_MS = 5000;

/** Return what is said of a camera's state, without its address; '' if it is as it should be. */
export function explain({ source, status: { state, detail } }) {
  return detail?.replace(`${source}: `, '') ?? EXPLANATIONS[state] ?? '';
}

/** Return a time as text. */
export function ageText(seconds) {
  if (seconds === null) return NONE;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** Frames a second of one camera, from its counts. */
export class Rate {
  #seen = []; // {at, frames}

  /** Note the number of frames so far; return the frames a second of the last five seconds, as text. */
  note({ state, frames }) {
    const at = performance.now();
    if (this.#seen.at(-1)?.frames > frames) this.#seen = []; // the camera was changed, or the service started again
    this.#seen = [...this.#seen.filter((each) => each.at > at - RATE_SPAN_MS), { at, frames }];
    const [first] = this.#seen;
    if (state !== 'live' || first.at === at) return NONE;
    const rate = (1000 * (frames - first.frames)) / (at - first.at);
    return rate.toFixed(rate < 10 ? 1 : 0);
  }
}

/** Set a text, if it is another one: a screen reader need not hear it again. */
export function setText(element, text) {
  if (element.textContent !== `${text}`) element.textContent = text;
}

/** Show the state of a camera on a badge. */
export function showState(badge, { state }) {
  badge.dataset.state = state;
  setText(badge, STATES[state] ?? state);
}

/**
 * Show an image on a canvas of its own size, and free it.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} image
 */
export function paint(canvas, image) {
  const { width, height } = image;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.getContext('2d', { alpha: false }).drawImage(image, 0, 0);
  canvas.hidden = false;
  image.close();
}

/** A camera's tile in the wall. */
export class Tile {
  #parts;
  #rate = new Rate();

  /**
   * @param {HTMLTemplateElement} template
   * @param {string} name of the camera.
   */
  constructor(template, name) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.#parts = Object.fromEntries([...this.element.querySelectorAll('[data-part]')].map((part) => [part.dataset.part, part]));
    this.#parts.name.textContent = name;
    this.#parts.name.href = `#${name}`;
    this.element.dataset.camera = name;
    this.name = name;
    this.rate = NONE;
    this.camera = null; // as the service answered last
    this.asked = 0; // when the newest image was asked for, performance.now()
    this.painted = null; // the number of frames at that time; null: there is no image yet
    this.inView = false;
  }

  /** Show how the camera is doing. */
  update(camera) {
    const { status } = camera;
    this.camera = camera;
    this.rate = this.#rate.note(status);
    this.element.dataset.state = status.state;
    showState(this.#parts.state, status);
    setText(this.#parts.people, status.people ?? NONE);
    setText(this.#parts.rate, this.rate);
    setText(this.#parts.age, ageText(status.age_s));
    setText(this.#parts.reconnects, status.reconnects);
    setText(this.#parts.detail, explain(camera));
    this.#parts.detail.title = explain(camera);
  }

  /** Show that nothing is known of the camera now. */
  forget() {
    showState(this.#parts.state, { state: 'unknown' });
  }

  /** Show the camera's newest image, and free it. */
  paint(image) {
    this.#parts.cover.hidden = true;
    paint(this.#parts.image, image);
    this.#parts.image.setAttribute('aria-label', `Newest image of ${this.name}`);
  }

  /** The canvas of the newest image; it is hidden while there is none. */
  get image() {
    return this.#parts.image;
  }
}
