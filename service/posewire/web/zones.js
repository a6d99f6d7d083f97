// Zones and lines over the image of a camera: shown, drawn and changed with pointer and keyboard. Places are fractions of the image.

const SVG = 'http://www.w3.org/2000/svg';
const STEP = 0.01;
const LONG_STEP = 0.05; // with Shift
const NEAR_PX = 6; // a corner so near to the one before is none
const HANDLE_PX = 8;
const CROSS_PX = 12;
const NAME_PX = 16; // from a corner to the name
const SIDE_PX = 26; // from a line to the names of its sides
const MOST_CORNERS = 64;
const LEAST_CORNERS = { zone: 3, line: 2 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const limited = (value) => Math.min(1, Math.max(0, value));
const rounded = (value) => Math.round(limited(value) * 10_000) / 10_000;
const percent = (value) => `${Math.round(value * 100)} %`;
const placeText = ([x, y]) => `${percent(x)} from the left, ${percent(y)} from the top`;

/** True if a rule has a place in the image. */
export const hasPlace = ({ kind }) => kind === 'zone' || kind === 'line';

/** Return the corners of a zone, or the ends of a line. */
export const cornersOf = (rule) => (rule.kind === 'zone' ? rule.polygon : [rule.start, rule.end]);

/** Return the fields of a rule with these corners or ends. */
export const withCorners = (rule, corners) => (rule.kind === 'zone' ? { ...rule, polygon: corners } : { ...rule, start: corners[0], end: corners[1] });

/**
 * Draws rules on an SVG element that covers the image, and lets the user draw one.
 *
 * Events: `change` after each change of the drawing; `cancel` for Escape.
 */
export class ShapeEditor extends EventTarget {
  #svg;
  #say;
  #rules = [];
  #kind = null; // of the drawing; null: nothing is drawn
  #corners = [];
  #cross = [0.5, 0.5];
  #dragged = null; // the number of the corner that follows the pointer

  /**
   * @param {SVGSVGElement} svg
   * @param {(text: string) => void} say tells a screen reader what was done.
   */
  constructor(svg, say) {
    super();
    this.#svg = svg;
    this.#say = say;
    new ResizeObserver(() => this.#render()).observe(svg);
    svg.addEventListener('pointerdown', (event) => this.#press(event));
    svg.addEventListener('pointermove', (event) => this.#drag(event));
    for (const type of ['pointerup', 'pointercancel']) svg.addEventListener(type, () => this.#release());
    svg.addEventListener('keydown', (event) => this.#key(event));
    for (const type of ['focusin', 'focusout']) svg.addEventListener(type, () => this.#showCross());
  }

  /** Show these rules, behind the drawing. */
  show(rules) {
    this.#rules = rules.filter(hasPlace);
    if (this.#dragged === null) this.#render();
  }

  /** Begin a drawing of a kind, with the corners of an existing rule or none. */
  begin(kind, corners = []) {
    this.#kind = kind;
    this.#corners = corners.map((corner) => [...corner]);
    this.#svg.setAttribute('tabindex', '0');
    this.#svg.setAttribute('role', 'application');
    this.#svg.setAttribute('aria-label', `Draw a ${kind}. Arrow keys move the cross, Enter sets a corner, Backspace removes the last one, Escape cancels.`);
    this.#svg.classList.add('drawing');
    this.#render();
    this.#svg.focus({ preventScroll: true });
    this.#changed();
  }

  /** End the drawing. */
  end() {
    this.#kind = this.#dragged = null;
    this.#corners = [];
    this.#svg.removeAttribute('tabindex');
    this.#svg.setAttribute('role', 'img');
    this.#svg.setAttribute('aria-label', 'Zones and lines');
    this.#svg.classList.remove('drawing');
    this.#render();
  }

  /** The corners that are drawn. */
  get corners() {
    return this.#corners.map((corner) => corner.map(rounded));
  }

  /** True if the drawing has all that it needs. */
  get complete() {
    return this.#kind !== null && this.#corners.length >= LEAST_CORNERS[this.#kind];
  }

  /** Remove the last corner. */
  undo() {
    this.#remove(this.#corners.length - 1);
  }

  /** Turn a line round: what was its left side is its right side then. */
  reverse() {
    this.#corners.reverse();
    this.#render();
    this.#changed();
  }

  get #full() {
    return this.#corners.length >= (this.#kind === 'line' ? 2 : MOST_CORNERS);
  }

  get #size() {
    return [this.#svg.clientWidth || 1, this.#svg.clientHeight || 1];
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }

  #add(place) {
    if (this.#full) return false;
    this.#corners.push(place.map(limited));
    this.#say(`Corner ${this.#corners.length}: ${placeText(place)}.`);
    return true;
  }

  #remove(number) {
    if (number < 0) return;
    this.#corners.splice(number, 1);
    this.#say(`Corner ${number + 1} is removed; ${this.#corners.length} are left.`);
    this.#render();
    this.#changed();
  }

  #move(number, place) {
    this.#corners[number] = place.map(limited);
    this.#render();
    this.#changed();
  }

  // ---- pointer

  #placeOf({ clientX, clientY }) {
    const { left, top, width, height } = this.#svg.getBoundingClientRect();
    return [(clientX - left) / width, (clientY - top) / height];
  }

  #distance([x0, y0], [x1, y1]) {
    const [width, height] = this.#size;
    return Math.hypot((x0 - x1) * width, (y0 - y1) * height);
  }

  #press(event) {
    if (!this.#kind || event.button !== 0) return;
    event.preventDefault();
    const place = this.#placeOf(event);
    const handle = event.target.dataset.corner;
    if (handle !== undefined) this.#dragged = Number(handle);
    else {
      const last = this.#corners.at(-1);
      if (last && this.#distance(last, place) < NEAR_PX) return;
      if (!this.#add(place)) return;
      this.#dragged = this.#corners.length - 1;
      // A line may be drawn in one go: its second end follows the pointer.
      if (this.#kind === 'line' && this.#dragged === 0) {
        this.#corners.push([...this.#corners[0]]);
        this.#dragged = 1;
      }
    }
    this.#svg.setPointerCapture(event.pointerId);
    this.#svg.focus({ preventScroll: true });
    this.#render();
    this.#changed();
  }

  #drag(event) {
    if (this.#dragged !== null) this.#move(this.#dragged, this.#placeOf(event));
  }

  #release() {
    if (this.#dragged === null) return;
    this.#dragged = null;
    if (this.#kind === 'line' && this.#corners.length === 2 && this.#distance(...this.#corners) < NEAR_PX) this.#corners.pop();
    this.#render();
    this.#changed();
  }

  // ---- keyboard

  #key(event) {
    if (!this.#kind || event.altKey || event.ctrlKey || event.metaKey) return;
    const corner = event.target.dataset.corner;
    const arrow = ARROWS[event.key];
    if (arrow) {
      const step = event.shiftKey ? LONG_STEP : STEP;
      const moved = ([x, y]) => [limited(x + arrow[0] * step), limited(y + arrow[1] * step)];
      if (corner === undefined) {
        this.#cross = moved(this.#cross);
        this.#say(placeText(this.#cross));
        this.#showCross();
      } else {
        this.#move(Number(corner), moved(this.#corners[corner]));
        this.#say(placeText(this.#corners[corner]));
        this.#svg.querySelector(`[data-corner="${corner}"]`).focus();
      }
    } else if (event.key === 'Escape') this.dispatchEvent(new Event('cancel'));
    else if (corner === undefined && (event.key === 'Enter' || event.key === ' ')) {
      if (this.#add(this.#cross)) {
        this.#render();
        this.#changed();
      }
    } else if (event.key === 'Backspace' || event.key === 'Delete') {
      this.#remove(corner === undefined ? this.#corners.length - 1 : Number(corner));
      this.#svg.focus({ preventScroll: true });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // ---- drawing

  #showCross() {
    const cross = this.#svg.querySelector('.cross');
    if (!cross) return;
    const [x, y] = this.#inPixels(this.#cross);
    cross.setAttribute('d', `M${x - CROSS_PX} ${y}h${2 * CROSS_PX}M${x} ${y - CROSS_PX}v${2 * CROSS_PX}`);
    cross.classList.toggle('shown', this.#svg.matches(':focus-visible'));
  }

  #inPixels([x, y]) {
    const [width, height] = this.#size;
    return [x * width, y * height];
  }

  #render() {
    const focused = this.#svg.contains(document.activeElement) ? document.activeElement.dataset.corner : undefined;
    const shapes = this.#rules.map((rule) => this.#shape(rule.kind, cornersOf(rule), rule.name));
    if (this.#kind) shapes.push(this.#shape(this.#kind, this.#corners, '', 'own'), ...this.#corners.map((place, i) => this.#handle(place, i)), element('path', { class: 'cross' }));
    const [width, height] = this.#size;
    this.#svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.#svg.replaceChildren(...shapes);
    this.#showCross();
    if (focused !== undefined) this.#svg.querySelector(`[data-corner="${focused}"]`)?.focus();
  }

  #shape(kind, corners, name, className = '') {
    const group = element('g', { class: `shape ${kind} ${className}` });
    const points = corners.map((corner) => this.#inPixels(corner));
    const text = points.map((point) => point.join(',')).join(' ');
    if (kind === 'zone') group.append(element('polygon', { points: text }));
    else {
      group.append(element('polyline', { points: text, class: 'halo' }), element('polyline', { points: text }));
      if (points.length === 2) group.append(...sides(...points));
    }
    if (name && points.length) {
      const [x, y] = points.reduce((top, point) => (point[1] < top[1] ? point : top));
      const [width] = this.#size;
      const anchor = x < width / 3 ? 'start' : x > (2 * width) / 3 ? 'end' : 'middle';
      group.append(label(name, x, Math.max(y - NAME_PX / 2, NAME_PX), anchor));
    }
    return group;
  }

  #handle(place, number) {
    const [cx, cy] = this.#inPixels(place);
    const said = `Corner ${number + 1}, ${placeText(place)}. Arrow keys move it, Delete removes it.`;
    return element('circle', { cx, cy, r: HANDLE_PX, class: 'handle', tabindex: 0, role: 'button', 'aria-label': said, 'data-corner': number });
  }
}

/** The names of a line's sides, for someone who looks from its start to its end. */
function sides([x0, y0], [x1, y1]) {
  const length = Math.hypot(x1 - x0, y1 - y0) || 1;
  const [across, down] = [((y1 - y0) / length) * SIDE_PX, (-(x1 - x0) / length) * SIDE_PX];
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2 + NAME_PX / 3];
  return [label('left', x + across, y + down, 'middle', 'side'), label('right', x - across, y - down, 'middle', 'side')];
}

function label(text, x, y, anchor, className = 'name') {
  const found = element('text', { x, y, 'text-anchor': anchor, class: className });
  found.textContent = text;
  return found;
}

function element(name, attributes) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  return found;
}
