// The live figures.

const SPAN_MS = 2000; // over which a rate is taken
const SPARKS = 120;

/** Counts frames and shows latency, rate, people, drops and the server's time. */
export class Meter {
  #show;
  #spark;
  #answers = []; // when results came, ms
  #latencies = [];
  #result = null;
  #frames = 0;
  #drops = 0;
  #timer = 0;

  /**
   * @param {Record<'latency' | 'rate' | 'people' | 'drops' | 'server', HTMLElement>} show
   * @param {HTMLCanvasElement} spark for the course of the latency.
   */
  constructor(show, spark) {
    this.#show = show;
    this.#spark = spark;
  }

  /** Begin anew. */
  start() {
    this.stop();
    this.#answers = [];
    this.#latencies = [];
    this.#result = null;
    this.#frames = this.#drops = 0;
    this.#timer = setInterval(() => this.#render(), 250);
  }

  /** Leave the figures as they are. */
  stop() {
    clearInterval(this.#timer);
  }

  /** A frame was seen; `dropped`: and not sent, because others were under way. */
  frame(dropped) {
    this.#frames += 1;
    this.#drops += dropped ? 1 : 0;
  }

  /** A result came. */
  result(message) {
    const now = performance.now();
    this.#answers.push(now);
    while (this.#answers[0] < now - SPAN_MS) this.#answers.shift();
    this.#drops += message.dropped;
    this.#latencies.push(message.latency_ms);
    if (this.#latencies.length > SPARKS) this.#latencies.shift();
    this.#result = message;
  }

  /** The figures of a single picture. */
  picture(image, latency_ms) {
    this.#set({ latency: latency_ms.toFixed(0), rate: '–', drops: '–', people: image.people.length, server: image.timings_ms.total.toFixed(0) });
  }

  /** No figures. */
  clear() {
    this.stop();
    this.#set({ latency: '–', rate: '–', drops: '–', people: '–', server: '–' });
    this.#latencies = [];
    this.#drawSpark();
  }

  #render() {
    if (!this.#result) return;
    const recent = this.#latencies.slice(-15).sort((a, b) => a - b);
    const now = performance.now();
    const rate = this.#answers.filter((at) => at > now - SPAN_MS).length / (SPAN_MS / 1000);
    this.#set({
      latency: recent[recent.length >> 1].toFixed(0),
      rate: rate.toFixed(rate < 10 ? 1 : 0),
      people: this.#result.people.length,
      drops: `${Math.round((100 * this.#drops) / Math.max(this.#frames, 1))} %`,
      server: this.#result.timings_ms.total.toFixed(0),
    });
    this.#show.drops.title = `${this.#drops} of ${this.#frames} frames were passed over for newer ones`;
    this.#drawSpark();
  }

  #set(values) {
    for (const [name, value] of Object.entries(values)) this.#show[name].textContent = value;
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
    context.strokeStyle = '#5eead4';
    context.lineWidth = 1.8 * devicePixelRatio;
    context.lineJoin = 'round';
    context.stroke(line);
    line.lineTo(width, height);
    line.lineTo(width - ((this.#latencies.length - 1) * width) / (SPARKS - 1), height);
    const shade = context.createLinearGradient(0, 0, 0, height);
    shade.addColorStop(0, 'rgb(94 234 212 / .28)');
    shade.addColorStop(1, 'rgb(94 234 212 / 0)');
    context.fillStyle = shade;
    context.fill(line);
  }
}
