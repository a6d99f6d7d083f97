// The client of /v1/stream: it sends only the newest frame, and reconnects when the connection is lost.

import { subprotocols } from './service.js';

// The limit of frames without an answer: one that the server processes, and the next one.
const WINDOW = 2;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

// Close codes after which a reconnected stream would fail again.
const FINAL = new Set([1009, 4400, 4415, 4422]);
const IDLE = 4408;

/**
 * Events: `started` (detail: the message), `result` (the message, with `latency_ms` from the frame's capture),
 * `refused` (the problem of one frame), `waiting` ({code, reason, seconds}: it will reconnect), `failed` ({code, reason}).
 */
export class PoseStream extends EventTarget {
  #socket = null;
  #options;
  #started = false;
  #captured = new Map(); // seq -> time of the frame's capture, ms
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

  /** True if the server would process a new frame at once. */
  get ready() {
    if (!this.#socket && !this.#timer && !this.#closed) this.#connect(); // the server had closed an idle stream
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

  /** Close the stream; it does not reconnect. */
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
    socket.addEventListener('message', (event) => this.#receive(JSON.parse(event.data)));
    socket.addEventListener('close', (event) => this.#ended(event));
  }

  /** Send a message unless the socket is closing; the `close` event follows then. */
  #write(data) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  #receive(message) {
    if (this.#closed) return;
    if (message.type === 'started') {
      this.#started = true;
      this.#pause = FIRST_PAUSE_MS;
      this.#emit('started', message);
      return;
    }
    this.#write(JSON.stringify({ type: 'ack', seq: message.seq }));
    this.#answered = message.seq;
    const latency_ms = performance.now() - this.#captured.get(message.seq);
    for (const seq of this.#captured.keys()) if (seq <= message.seq) this.#captured.delete(seq);
    this.#emit(message.type === 'result' ? 'result' : 'refused', { ...message, latency_ms });
  }

  #ended({ code, reason }) {
    this.#socket = null;
    this.#started = false;
    if (this.#closed || code === IDLE) return; // after an idle time the next frame reconnects
    if (FINAL.has(code)) {
      this.#closed = true;
      this.#emit('failed', { code, reason });
      return;
    }
    const pause = this.#pause * (0.75 + Math.random() / 2); // so that clients do not all reconnect at once
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#emit('waiting', { code, reason, seconds: pause / 1000 });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
