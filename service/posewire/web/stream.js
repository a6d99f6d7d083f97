// The client of /v1/stream: it sends only the newest frame, notices silence, and reconnects when the connection is lost.

import { subprotocols } from './service.js';

// The limit of frames without an answer: one that the server processes, and the next one.
const WINDOW = 2;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

// The server answers or refuses every frame within its deadline, 1 s by default.
const SILENT_MS = 2000;
// A machine that vanished closes no connection, so the stream leaves a silent one.
const LEAVE_MS = 6000;
const WATCH_MS = 200;

// Close codes after which a reconnected stream would fail again.
const FINAL = new Set([1009, 4400, 4415, 4422]);
const IDLE = 4408;
const LOST = 1006;

/**
 * A frame is any object with `captured`, the time of its capture (performance.now(), ms).
 *
 * Events, with their detail:
 * - `started`: the message.
 * - `result` ({answer, frame, latency_ms}): the people of a frame; the latency is from the capture to now.
 * - `lost` ({frame, cause, problem}): a sent frame has no result. The cause is `newer` (the server took a newer frame), `refused`
 *   (`problem` has the reason) or `connection`.
 * - `silent` ({since, unsent}): no answer for 2 s; `since`: performance.now() of the last one, or of the attempt to connect;
 *   `unsent`: the network has not yet taken all that was sent.
 * - `waiting` ({code, reason, until}): it connects again at `until`, performance.now().
 * - `connecting`: it tries again.
 * - `failed` ({code, reason}): the stream has ended; to connect again would not help.
 */
export class PoseStream extends EventTarget {
  #socket = null;
  #options;
  #started = false;
  #frames = new Map(); // seq -> frame, of those without an answer
  #seq = 0;
  #awaited = null; // since when an answer is awaited, ms; null: none is
  #silent = false;
  #pause = FIRST_PAUSE_MS;
  #timer = 0;
  #watch;
  #closed = false;

  /** @param {object} options fields of the start message. */
  constructor(options) {
    super();
    this.#options = options;
    this.#watch = setInterval(() => this.#checkSilence(), WATCH_MS);
    this.#connect();
  }

  /** True if frames can be sent. */
  get connected() {
    return this.#started;
  }

  /** True if the server would process a new frame at once. */
  get ready() {
    if (!this.#socket && !this.#timer && !this.#closed) this.#connect(); // the server had closed an idle stream
    return this.#started && this.#frames.size < WINDOW && this.#socket.bufferedAmount === 0;
  }

  /**
   * Send one frame.
   *
   * @param {ArrayBuffer} data JPEG, PNG or WebP.
   * @param {{captured: number}} frame returned with the answer.
   */
  send(data, frame) {
    if (!this.#started) {
      this.#emit('lost', { frame, cause: 'connection' });
      return;
    }
    this.#frames.set(this.#seq, frame);
    this.#seq += 1;
    this.#awaited ??= performance.now();
    this.#write(data);
  }

  /** Connect again now, if the stream waits or the server is silent. */
  retry() {
    if (this.#closed || (this.#started && !this.#silent)) return;
    clearTimeout(this.#timer);
    this.#leave();
    this.#emit('connecting', {});
    this.#connect();
  }

  /** Close the stream; it does not reconnect. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    this.#leave();
  }

  #connect() {
    this.#timer = 0;
    const address = new URL('v1/stream', document.baseURI);
    address.protocol = address.protocol.replace('http', 'ws');
    const socket = new WebSocket(address, subprotocols());
    this.#socket = socket;
    this.#seq = 0;
    this.#awaited = performance.now();
    // Events of a connection that was left are ignored.
    const on = (type, act) => socket.addEventListener(type, (event) => socket === this.#socket && act(event));
    on('open', () => socket.send(JSON.stringify({ type: 'start', ...this.#options })));
    on('message', (event) => this.#receive(JSON.parse(event.data)));
    on('close', (event) => this.#ended(event));
  }

  /** Leave the present connection; its frames are lost. */
  #leave() {
    const socket = this.#socket;
    this.#socket = null;
    this.#started = this.#silent = false;
    this.#awaited = null;
    socket?.close(1000);
    const lost = [...this.#frames.values()];
    this.#frames.clear();
    for (const frame of lost) this.#emit('lost', { frame, cause: 'connection' });
  }

  /** Send a message unless the socket is closing; the `close` event follows then. */
  #write(data) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  #receive(message) {
    this.#silent = false;
    if (message.type === 'started') {
      this.#started = true;
      this.#awaited = null;
      this.#pause = FIRST_PAUSE_MS;
      this.#emit('started', message);
      return;
    }
    const now = performance.now();
    this.#write(JSON.stringify({ type: 'ack', seq: message.seq }));
    const settled = [...this.#frames].filter(([seq]) => seq <= message.seq);
    for (const [seq] of settled) this.#frames.delete(seq);
    this.#awaited = this.#frames.size ? now : null;
    const [, frame] = settled.pop();
    for (const [, older] of settled) this.#emit('lost', { frame: older, cause: 'newer' });
    if (message.type === 'result') this.#emit('result', { answer: message, frame, latency_ms: now - frame.captured });
    else this.#emit('lost', { frame, cause: 'refused', problem: message.problem });
  }

  #checkSilence() {
    if (this.#awaited === null) return;
    const silence = performance.now() - this.#awaited;
    if (silence > LEAVE_MS) this.#ended({ code: LOST, reason: '' });
    else if (silence > SILENT_MS && !this.#silent) {
      this.#silent = true;
      this.#emit('silent', { since: this.#awaited, unsent: this.#socket.bufferedAmount > 0 });
    }
  }

  #ended({ code, reason }) {
    this.#leave();
    if (code === IDLE) return; // the next frame reconnects
    if (FINAL.has(code)) {
      this.close();
      this.#emit('failed', { code, reason });
      return;
    }
    const pause = this.#pause * (0.75 + Math.random() / 2); // so that clients do not all reconnect at once
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
    this.#timer = setTimeout(() => {
      this.#emit('connecting', {});
      this.#connect();
    }, pause);
    this.#emit('waiting', { code, reason, until: performance.now() + pause });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
