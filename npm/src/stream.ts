// The client of WS /v1/stream: it sends only the newest frame, and reconnects when the connection is lost.

import { ConnectionLost, errorOfClose, PosewireError, problemType, ServiceError, UnexpectedAnswer } from './errors.js';
import { type Encoded, requireEncoded } from './inputs.js';
import type { AckMessage, ErrorMessage, ResultMessage, StartedMessage, StartMessage, TrackedPerson } from './messages.js';

/** The result of one frame, or its error. */
export interface StreamResult {
  /** Its number, as `offer` and `put` returned it. */
  frame: number;
  /** Number of the connection, from 0; each connection counts its track ids anew. */
  connection: number;
  /** Milliseconds from `offer` or `put` to the arrival of the answer. */
  latency_ms: number;
  /** Everyone in the frame; empty if there is an error. */
  people: TrackedPerson[];
  /** The message of the service; null if there is an error. */
  answer: ResultMessage | null;
  /** Of this frame alone; the stream continues. */
  error: ServiceError | null;
}

/** The part of a WebSocket that a stream uses: the browser's own, Node's (from 22 on) and that of the package `ws` have it. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: any): void;
  close(code?: number, reason?: string): void;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** Called when the connection is lost: the stream will connect again after a pause. */
export type OnReconnect = (event: { error: PosewireError; pauseMs: number }) => void;

/** What a stream needs beside its start message. */
export interface StreamSettings {
  url: string;
  protocols: string[];
  WebSocket: WebSocketConstructor;
  /** How long to try to connect before giving up, milliseconds. */
  patienceMs: number;
  onReconnect: OnReconnect;
  /** Returns why a handshake was rejected, which a WebSocket does not show; null: not known. */
  explain: () => Promise<PosewireError | null>;
}

/** A frame that waits, or was sent and has no answer yet. */
interface OfferedFrame {
  number: number;
  data: Encoded;
  offered: number; // time of `offer`, ms
}

interface QueuedResult {
  result: StreamResult;
  socket: WebSocketLike;
  seq: number;
}

// The limit of frames without an answer: one that the service processes, and the next one.
const WINDOW = 2;

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
const HANDSHAKE_MS = 15_000;

// The service answers a frame within its deadline, a second by default. After this time the connection is taken for lost.
const ANSWER_MS = 15_000;

const OPEN = 1; // of WebSocket.readyState

/**
 * A stream of frames, and an async iterable of its results.
 *
 * A result is acknowledged when the caller takes it. So a slow caller gets newer frames, not a backlog. The iteration throws the error that
 * ends the stream: a `ServiceError` if the service would reject the stream again, else a `ConnectionLost` when the patience is over.
 */
export class PoseStream implements AsyncIterable<StreamResult> {
  /** The service's first answer: names of the keypoints, skeleton, limits. Rejected if the stream never starts. */
  readonly started: Promise<StartedMessage>;

  readonly #start: StartMessage;
  readonly #settings: StreamSettings;
  #socket: WebSocketLike | null = null; // while it is open and has started
  #connections = 0;
  #offered = 0;
  #sent = 0; // frames on this connection
  #waiting: OfferedFrame | null = null;
  #inFlight = new Map<number, OfferedFrame>(); // by seq
  #results: QueuedResult[] = [];
  #closed = false;
  #failure: PosewireError | null = null;
  #waiters: (() => void)[] = [];
  #answerTimer: ReturnType<typeof setTimeout> | undefined;
  #lose: (error: PosewireError) => void = () => {}; // ends the present connection, or the pause before the next
  #resolveStarted!: (message: StartedMessage) => void;
  #rejectStarted!: (error: PosewireError) => void;

  /** Connects at once; `PoseClient.stream` makes streams. */
  constructor(start: StartMessage, settings: StreamSettings) {
    this.#start = start;
    this.#settings = settings;
    this.started = new Promise((resolve, reject) => {
      this.#resolveStarted = resolve;
      this.#rejectStarted = reject;
    });
    this.started.catch(() => {}); // the iteration reports it, too
    void this.#run();
  }

  /** True if a frame that is offered now would be sent at once. Encode a frame only then. */
  get ready(): boolean {
    return this.#socket !== null && this.#waiting === null && this.#inFlight.size < WINDOW;
  }

  /**
   * Send a frame as soon as the service is ready for it; a newer offer replaces it until then. Returns its number, from 0.
   *
   * @param data JPEG, PNG or WebP; anything but bytes is a `TypeError`.
   */
  offer(data: Encoded): number {
    requireEncoded(data);
    const frame = { number: this.#offered, data, offered: performance.now() };
    this.#offered += 1;
    this.#waiting = frame;
    this.#send();
    this.#notify();
    return frame.number;
  }

  /** Wait until the last frame is sent, then offer this one: no frame is dropped by the client. Throws the errors of the iteration. */
  async put(data: Encoded): Promise<number> {
    await this.#until(() => this.#waiting === null);
    if (this.#failure) throw this.#failure;
    if (this.#closed) throw new ConnectionLost('the stream is closed');
    return this.offer(data);
  }

  /**
   * Send frames and yield their results, until the last frame is answered.
   *
   * @param frames encoded images.
   * @param options `every`: true waits for the service, so that each frame has a result (a file); false sends the newest frame (a camera).
   */
  async *results(
    frames: AsyncIterable<Encoded> | Iterable<Encoded>,
    { every = false }: { every?: boolean } = {},
  ): AsyncGenerator<StreamResult, void, undefined> {
    let state: 'sending' | 'sent' | 'left' = 'sending';
    const send = async () => {
      for await (const frame of frames) {
        if (state === 'left') return;
        if (every) await this.put(frame);
        else this.offer(frame);
      }
    };
    const failures: unknown[] = [];
    void send()
      .catch((error: unknown) => failures.push(error))
      .then(() => {
        if (state === 'sending') state = 'sent';
        this.#notify();
      });
    try {
      for (;;) {
        await this.#until(() => this.#results.length > 0 || (state === 'sent' && !this.#waiting && this.#inFlight.size === 0));
        const result = this.#take();
        if (!result) break;
        yield result;
      }
      if (failures.length > 0 && !this.#closed) throw failures[0];
    } finally {
      state = 'left';
    }
  }

  /** Iterate over the results until `close`. */
  async *[Symbol.asyncIterator](): AsyncGenerator<StreamResult, void, undefined> {
    for (;;) {
      await this.#until(() => this.#results.length > 0);
      const result = this.#take();
      if (!result) return;
      yield result;
    }
  }

  /** Close the stream; frames without an answer are dropped. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiting = null;
    this.#rejectStarted(new ConnectionLost('the stream is closed'));
    this.#lose(new ConnectionLost('the stream is closed'));
    this.#notify();
  }

  #take(): StreamResult | null {
    const next = this.#results.shift();
    if (!next) return null;
    if (next.socket.readyState === OPEN) next.socket.send(JSON.stringify({ type: 'ack', seq: next.seq } satisfies AckMessage));
    this.#watch();
    return next.result;
  }

  /** Wait until the condition holds or the stream is closed; throws the error that ended it. */
  async #until(condition: () => boolean): Promise<void> {
    while (!condition() && !this.#closed) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  #notify(): void {
    for (const wake of this.#waiters.splice(0)) wake();
  }

  /** Connect, and reconnect until an error is final or the patience is over. */
  async #run(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS;
    let lostAt = performance.now();
    while (!this.#closed) {
      const connections = this.#connections;
      const { error, final } = await this.#connection();
      if (this.#closed) return;
      if (final) return this.#fail(error);
      if (error instanceof ServiceError && error.type === 'timed-out') {
        await this.#until(() => this.#waiting !== null); // the service closed a stream without frames; the next frame opens it again
        lostAt = performance.now();
        continue;
      }
      if (this.#connections > connections) {
        pauseMs = FIRST_PAUSE_MS;
        lostAt = performance.now();
      }
      const retryAfterMs = error instanceof ServiceError ? (error.retryAfterS ?? 0) * 1000 : 0;
      const pause = Math.max(pauseMs, retryAfterMs) * (0.75 + Math.random() / 2); // so that clients do not all reconnect at once
      if (performance.now() + pause > lostAt + this.#settings.patienceMs) return this.#fail(error);
      this.#settings.onReconnect({ error, pauseMs: pause });
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pause);
        this.#lose = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  }

  #fail(error: PosewireError): void {
    this.#failure = error;
    this.#rejectStarted(error);
    this.#notify();
  }

  /** Run one connection, from its handshake to the error that ends it. */
  async #connection(): Promise<{ error: PosewireError; final: boolean }> {
    const { url, protocols, WebSocket, explain } = this.#settings;
    let socket: WebSocketLike;
    try {
      socket = new WebSocket(url, protocols);
    } catch (error) {
      return { error: new PosewireError(`${url} is not the address of a stream: ${(error as Error).message}`), final: true };
    }
    let opened = false;
    const ended = await new Promise<{ error: PosewireError; final: boolean }>((resolve) => {
      const handshake = setTimeout(() => this.#lose(new ConnectionLost(`${url} does not answer`)), HANDSHAKE_MS);
      this.#lose = (error) => {
        clearTimeout(handshake);
        resolve({ error, final: error instanceof UnexpectedAnswer });
        socket.onmessage = null;
        socket.close(1000);
      };
      socket.onopen = () => {
        opened = true;
        socket.send(JSON.stringify(this.#start));
      };
      socket.onerror = () => {}; // a close event follows
      socket.onmessage = ({ data }: { data: unknown }) => {
        clearTimeout(handshake);
        try {
          this.#receive(socket, data);
        } catch (error) {
          this.#lose(error as PosewireError);
        }
      };
      socket.onclose = ({ code, reason }: { code: number; reason: string }) => {
        clearTimeout(handshake);
        resolve(errorOfClose(code, reason));
      };
    });
    this.#socket = null;
    clearTimeout(this.#answerTimer);
    this.#requeueNewest();
    if (opened || this.#closed) return ended;
    const reason = await explain();
    return reason ? { error: reason, final: isFinal(reason) } : { error: new ConnectionLost(`${url} cannot be reached`), final: false };
  }

  /** Send the frame that waits, if the window has room. */
  #send(): void {
    const frame = this.#waiting;
    if (!frame || this.#socket?.readyState !== OPEN || this.#inFlight.size >= WINDOW) return;
    this.#waiting = null;
    this.#inFlight.set(this.#sent, frame);
    this.#sent += 1;
    this.#socket.send(frame.data);
    this.#watch();
    this.#notify();
  }

  #receive(socket: WebSocketLike, data: unknown): void {
    const message = parse(data);
    if (message.type === 'started') {
      this.#socket = socket;
      this.#sent = 0;
      this.#connections += 1;
      this.#resolveStarted(message);
    } else {
      const frame = this.#inFlight.get(message.seq);
      if (!frame) throw new UnexpectedAnswer('the service answers a frame that it was not sent');
      for (const seq of this.#inFlight.keys()) if (seq <= message.seq) this.#inFlight.delete(seq);
      this.#results.push({ result: resultOf(message, frame, this.#connections - 1), socket, seq: message.seq });
      this.#watch();
    }
    this.#send();
    this.#notify();
  }

  /** Take the connection for lost if an answer is due for too long. Without an acknowledgement the service owes none. */
  #watch(): void {
    clearTimeout(this.#answerTimer);
    if (this.#inFlight.size === 0 || this.#results.length > 0) return;
    this.#answerTimer = setTimeout(() => this.#lose(new ConnectionLost(`no answer came for ${ANSWER_MS / 1000} seconds`)), ANSWER_MS);
  }

  /** Keep the newest frame of a lost connection for the next one, unless a newer frame waits. */
  #requeueNewest(): void {
    const lost = [...this.#inFlight.values()].at(-1) ?? null;
    this.#inFlight.clear();
    if (!this.#closed) this.#waiting ??= lost;
    this.#notify();
  }
}

/** True if a rejected handshake would be rejected again. */
function isFinal(error: PosewireError): boolean {
  if (error instanceof UnexpectedAnswer) return true;
  return error instanceof ServiceError && error.status !== null && error.status < 500 && error.status !== 429;
}

function parse(data: unknown): StartedMessage | ResultMessage | ErrorMessage {
  let message: { type?: unknown } | null;
  try {
    message = JSON.parse(String(data)) as { type?: unknown } | null;
  } catch {
    message = null;
  }
  if (message?.type !== 'started' && message?.type !== 'result' && message?.type !== 'error') {
    throw new UnexpectedAnswer('what answers is not a Posewire of this version');
  }
  return message as StartedMessage | ResultMessage | ErrorMessage;
}

function resultOf(message: ResultMessage | ErrorMessage, frame: OfferedFrame, connection: number): StreamResult {
  const common = { frame: frame.number, connection, latency_ms: Math.round((performance.now() - frame.offered) * 100) / 100 };
  if (message.type === 'result') return { ...common, people: message.people, answer: message, error: null };
  const { type, detail, status } = message.problem;
  return { ...common, people: [], answer: null, error: new ServiceError(problemType(type), detail, status) };
}
