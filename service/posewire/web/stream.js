// A WebSocket of /v1/stream: the newest frame wins here too, and a lost connection comes back.

import { subprotocols } from './service.js';

// Frames that may be on their way or being worked on: one in the server, one behind it.
const WINDOW = 2;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

// Close codes after which the same stream cannot work.
const FINAL = new Set([1009, 4400, 4415, 4422]);
const IDLE = 4408;

/**
 * Events: `started` (detail: the message), `result` (the message, with `latency_ms` from the frame's capture),
 * `refused` (one frame's problem), `waiting` ({code, reason, seconds}: it will connect again), `failed` ({code, reason}).
 */
export class PoseStream extends EventTarget {
  #socket = null;
  #options;
  #started = false;
  #captured = new Map(); // seq -> when its frame was captured, ms
  #sent = 0;
  #answered = -1;
  #pause = FIRST_PAUSE_MS;
  #timer = 0;
  #closed = false;

  /** @param {object} options fields of the start message. */
  constructor(options) {
    super();
    this.#options = options;
    this.#connect();
  }

  /** Whether a frame that is sent now would be worked on without waiting behind others. */
  get ready() {
    if (!this.#socket && !this.#timer && !this.#closed) this.#connect(); // it had fallen asleep
    return this.#started && this.#sent - 1 - this.#answered < WINDOW && this.#socket.bufferedAmount === 0;
  }

  /**
   * Send one frame.
   *
   * @param {ArrayBuffer} data JPEG, PNG or WebP.
   * @param {number} captured performance.now() of its capture.
   */
  send(data, captured) {
    if (!this.#started) return;
    this.#captured.set(this.#sent, captured);
    this.#sent += 1;
    this.#write(data);
  }

  /** End it for good. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
  }

  #connect() {
    this.#timer = 0;
    const address = new URL('v1/stream', document.baseURI);
    address.protocol = address.protocol.replace('http', 'ws');
    const socket = new WebSocket(address, subprotocols());
    this.#socket = socket;
    this.#captured.clear();
    this.#sent = 0;
    this.#answered = -1;
    socket.addEventListener('open', () => socket.send(JSON.stringify({ type: 'start', ...this.#options })));
    socket.addEventListener('message', (event) => this.#take(JSON.parse(event.data)));
    socket.addEventListener('close', (event) => this.#ended(event));
  }

  /** To a server that has said its goodbye nothing is sent: the browser would complain, and the end is about to be told. */
  #write(data) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  #take(message) {
    if (this.#closed) return;
    if (message.type === 'started') {
      this.#started = true;
      this.#pause = FIRST_PAUSE_MS;
      this.#tell('started', message);
      return;
    }
    this.#write(JSON.stringify({ type: 'ack', seq: message.seq }));
    this.#answered = message.seq;
    const latency_ms = performance.now() - this.#captured.get(message.seq);
    for (const seq of this.#captured.keys()) if (seq <= message.seq) this.#captured.delete(seq);
    this.#tell(message.type === 'result' ? 'result' : 'refused', { ...message, latency_ms });
  }

  #ended({ code, reason }) {
    this.#socket = null;
    this.#started = false;
    if (this.#closed || code === IDLE) return; // asleep: the next frame wakes it
    if (FINAL.has(code)) {
      this.#closed = true;
      this.#tell('failed', { code, reason });
      return;
    }
    const pause = this.#pause * (0.75 + Math.random() / 2); // not all clients at the same moment
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#tell('waiting', { code, reason, seconds: pause / 1000 });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
