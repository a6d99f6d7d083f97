// The live figures.

const SPAN_MS = 2000; // the window of the frame rate
const SPARKS = 120; // latencies in the sparkline

/** Counts frames, and shows latency, rate, people, dropped frames and the server's time. */
export class Meter {
  #show;
  #spark;
  #answers = []; // times of results, ms
  #latencies = [];
  #result = null;
  #frames = 0;
  #drops = 0;
  #timer = 0;

  /**
   * @param {Record<'latency' | 'rate' | 'people' | 'drops' | 'server', HTMLElement>} show
   * @param {HTMLCanvasElement} spark shows a sparkline of the latency.
   */
  constructor(show, spark) {
    this.#show = show;
    this.#spark = spark;
  }

  /** Reset the figures and start to show them. */
  start() {
    this.stop();
    this.#answers = [];
    this.#latencies = [];
    this.#result = null;
    this.#frames = this.#drops = 0;
    this.#timer = setInterval(() => this.#render(), 250);
  }

  /** Stop updating the figures. */
  stop() {
    clearInterval(this.#timer);
  }

  /** Count a frame of the source; `dropped`: it was not sent, because others had no answer yet. */
  frame(dropped) {
    this.#frames += 1;
    this.#drops += dropped ? 1 : 0;
  }

  /** Count a result. */
  result(message) {
    const now = performance.now();
    this.#answers.push(now);
    while (this.#answers[0] < now - SPAN_MS) this.#answers.shift();
    this.#drops += message.dropped;
    this.#latencies.push(message.latency_ms);
    if (this.#latencies.length > SPARKS) this.#latencies.shift();
    this.#result = message;
  }

  /** Show the figures of a single image. */
  picture(image, latency_ms) {
    this.#set({ latency: latency_ms.toFixed(0), rate: '–', drops: '–', people: image.people.length, server: image.timings_ms.total.toFixed(0) });
  }

  /** Show no figures. */
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
    this.#show.drops.title = `${this.#drops} of ${this.#frames} frames were dropped for newer ones`;
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
