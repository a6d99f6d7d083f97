// The events of cameras in words, and the list of them.

export const LONGEST = 200; // events in the list

const seconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)}\u00a0s`;

const TEXTS = {
  entered: (person, { rule }) => `${person} entered ${rule}`,
  left: (person, { rule, seconds: time, lost }) => `${person} left ${rule} after ${seconds(time)}${lost ? ' (lost from sight)' : ''}`,
  dwelled: (person, { rule, seconds: time }) => `${person} has been in ${rule} for ${seconds(time)}`,
  crossed: (person, { rule, direction }) => `${person} crossed ${rule} from ${direction.replaceAll('_', ' ')}`,
  hand_raised: (person, { side }) => `${person} raised the ${side} hand`,
  hand_lowered: (person, { side }) => `${person} lowered the ${side} hand`,
  fall_suspected: (person) => `${person} may have fallen`,
  got_up: (person) => `${person} got up`,
  repetition: (person, { rule, count }) => `${person}: ${rule}, repetition ${count}`,
};
const URGENT = new Set(['fall_suspected']);

/** Return an event in words. */
export function eventText(message) {
  const person = `Person ${message.track_id}`;
  return TEXTS[message.event]?.(person, message) ?? `${person}: ${message.event} (${message.rule})`;
}

/** The list of events, newest first. */
export class EventList {
  #list;
  #empty;
  #only = null; // the name of the camera that is shown alone

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} empty shown while the list shows nothing.
   */
  constructor(list, empty) {
    this.#list = list;
    this.#empty = empty;
  }

  /** Add an event of a camera. */
  add({ camera, time, message }) {
    const item = document.createElement('li');
    item.dataset.camera = camera;
    item.dataset.event = message.event;
    item.classList.toggle('urgent', URGENT.has(message.event));
    const when = document.createElement('time');
    when.dateTime = time;
    when.title = new Date(time).toLocaleString();
    when.textContent = new Date(time).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
    const where = document.createElement('a');
    where.href = `#${camera}`;
    where.textContent = camera;
    const what = document.createElement('span');
    what.textContent = eventText(message);
    item.append(when, where, what);
    this.#list.prepend(item);
    while (this.#list.children.length > LONGEST) this.#list.lastElementChild.remove();
    this.#filter(item);
    this.#tellEmpty();
  }

  /** Show the events of one camera alone; null: of all. */
  showOnly(camera) {
    this.#only = camera;
    for (const item of this.#list.children) this.#filter(item);
    this.#tellEmpty();
  }

  #filter(item) {
    item.hidden = this.#only !== null && item.dataset.camera !== this.#only;
  }

  #tellEmpty() {
    this.#empty.hidden = [...this.#list.children].some(({ hidden }) => !hidden);
  }
}
