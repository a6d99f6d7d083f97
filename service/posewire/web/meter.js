// The live figures. All of them describe the same frames: those that were settled within the same span of time.

const SPAN_MS = 2000;
// Where few frames are answered, a short span would show chance.
const FEW_ANSWERS = 4;
const LONG_SPAN_MS = 10_000;
const SPARKS = 120; // latencies in the sparkline
const NONE = '–';

/** What can become of a frame of the source. All but `answered` are drops. */
export const FATES = ['answered', 'waiting', 'newer', 'refused', 'connection'];

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

const answered = (frames) => frames.filter(({ fate }) => fate === 'answered');

/** Counts frames, and shows latency, rates, people, dropped frames, the server's time and the age of the last answer. */
export class Meter {
  #show;
  #spark;
  #totals; // fate -> frames since the start
  #settled = []; // {at, fate, latency_ms, server_ms} of the span; times in ms
  #latencies = [];
  #started = 0;
  #answered = null; // time of the last result, ms
  #people = 0;

  /**
   * @param {Record<string, HTMLElement>} show elements of the figures: `latency`, `server`, `rate`, `source` (frames/s of the source),
   *   `people`, `drops`, `age`, and `total-FATE` for each of `FATES`.
   * @param {HTMLCanvasElement} spark shows a sparkline of the latency, in the colour of its text.
   */
  constructor(show, spark) {
    this.#show = show;
    this.#spark = spark;
    this.clear();
  }

  /** The median latency of the span, ms; null: no frame was answered. */
  get latency() {
    const answers = answered(this.#recent().frames);
    return answers.length ? median(answers.map(({ latency_ms }) => latency_ms)) : null;
  }

  /** Seconds since the last result; null: there was none. */
  get age() {
    return this.#answered === null ? null : (performance.now() - this.#answered) / 1000;
  }

  /** Count a frame that gets no result. */
  drop(fate) {
    this.#settle({ fate });
  }

  /**
   * Count a result.
   *
   * @param {{people: object[], age_ms: number}} answer
   * @param {number} latency_ms from the capture of the frame.
   */
  result(answer, latency_ms) {
    this.#answered = performance.now();
    this.#people = answer.people.length;
    this.#latencies.push(latency_ms);
    if (this.#latencies.length > SPARKS) this.#latencies.shift();
    this.#settle({ fate: 'answered', latency_ms, server_ms: answer.age_ms });
  }

  /** Show the figures of a single image. */
  image(answer, latency_ms) {
    this.clear();
    this.#set({ latency: latency_ms.toFixed(0), server: answer.timings_ms.total.toFixed(0), people: answer.people.length });
  }

  /** Forget all frames, and show no figures. */
  clear() {
    this.#settled = [];
    this.#latencies = [];
    this.#totals = Object.fromEntries(FATES.map((fate) => [fate, 0]));
    this.#started = performance.now();
    this.#answered = null;
    this.#people = 0;
    this.#set({ latency: NONE, server: NONE, rate: NONE, source: NONE, people: NONE, drops: NONE, age: NONE });
    this.#setTotals();
    this.#drawSpark();
  }

  /** Show the figures of now. */
  render() {
    const { frames, span } = this.#recent();
    const answers = answered(frames);
    const seconds = Math.min(span, performance.now() - this.#started) / 1000;
    const perSecond = ({ length }) => (length / seconds).toFixed(length / seconds < 10 ? 1 : 0);
    const share = (100 * (frames.length - answers.length)) / frames.length;
    this.#set({
      latency: answers.length ? this.latency.toFixed(0) : NONE,
      server: answers.length ? median(answers.map(({ server_ms }) => server_ms)).toFixed(0) : NONE,
      rate: perSecond(answers),
      source: perSecond(frames),
      people: this.#answered === null ? NONE : this.#people,
      drops: frames.length ? `${Math.round(share)} %` : NONE,
      age: this.age === null ? NONE : this.age.toFixed(1),
    });
    this.#setTotals();
    this.#drawSpark();
  }

  /** The settled frames that the figures describe, and the span of time, ms, in which they were settled. */
  #recent() {
    const since = (span) => this.#settled.filter(({ at }) => at > performance.now() - span);
    const frames = since(SPAN_MS);
    return answered(frames).length < FEW_ANSWERS ? { frames: since(LONG_SPAN_MS), span: LONG_SPAN_MS } : { frames, span: SPAN_MS };
  }

  #settle(frame) {
    const now = performance.now();
    this.#totals[frame.fate] += 1;
    this.#settled = [...this.#settled.filter(({ at }) => at > now - LONG_SPAN_MS), { at: now, ...frame }];
  }

  #set(values) {
    for (const [name, value] of Object.entries(values)) {
      const text = `${value}`;
      if (this.#show[name].textContent !== text) this.#show[name].textContent = text;
    }
  }

  #setTotals() {
    this.#set(Object.fromEntries(FATES.map((fate) => [`total-${fate}`, this.#totals[fate]])));
  }

  #drawSpark() {
    const { clientWidth, clientHeight } = this.#spark;
    Object.assign(this.#spark, { width: clientWidth * devicePixelRatio, height: clientHeight * devicePixelRatio });
    if (this.#latencies.length < 2 || !clientWidth) return;
    const { width, height } = this.#spark;
    const context = this.#spark.getContext('2d');
    const top = Math.max(...this.#latencies, 50) * 1.1;
    const line = new Path2D();
    this.#latencies.forEach((value, i) => line.lineTo(width - ((this.#latencies.length - 1 - i) * width) / (SPARKS - 1), height * (1 - value / top)));
    context.strokeStyle = context.fillStyle = getComputedStyle(this.#spark).color;
    context.lineWidth = 1.8 * devicePixelRatio;
    context.lineJoin = 'round';
    context.stroke(line);
    line.lineTo(width, height);
    line.lineTo(width - ((this.#latencies.length - 1) * width) / (SPARKS - 1), height);
    context.globalAlpha = 0.16;
    context.fill(line);
  }
}
