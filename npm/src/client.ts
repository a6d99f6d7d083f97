// The client of POST /v1/pose and GET /v1/models; it opens streams.

import { ConnectionLost, errorOfAnswer, PosewireError, retryAfterS, UnexpectedAnswer } from './errors.js';
import { type Encoded, requireEncoded } from './inputs.js';
import type { CocoPerson, ModelsResponse, PoseResponse, StartMessage } from './messages.js';
import { type OnReconnect, PoseStream, type WebSocketConstructor } from './stream.js';

/** x, y, width, height in pixels of the upright image. */
export type Box = readonly [number, number, number, number];

export interface ClientOptions {
  /** The key, if the service needs one. */
  apiKey?: string;
  /** Limit of one request, milliseconds; the service gets it as the deadline. 10,000 unless given. */
  timeoutMs?: number;
  /** Retries of a request if the service is busy (429, 502, 503) or the connection is lost. 4 unless given. */
  retries?: number;
  /** Of every request; a WebSocket takes none. */
  headers?: Record<string, string>;
  /** How long a stream tries to connect before it gives up, milliseconds. 60,000 unless given; `Infinity`: it never does. */
  patienceMs?: number;
  /** Instead of the global `fetch`. */
  fetch?: typeof fetch;
  /** Instead of the global `WebSocket`. Node has one from version 22 on; before, pass that of the package `ws`. */
  WebSocket?: WebSocketConstructor;
}

/** The parameters of POST /v1/pose, by their names in the API. */
export interface PoseOptions {
  /** Limit of people per image; the best are returned. */
  max_people?: number;
  /** 0..1; people below it are left out. */
  min_detection_score?: number;
  /** 0..1; keypoints below it are left out. */
  min_keypoint_score?: number;
  /** The detector is skipped. Only with a single image. */
  boxes?: readonly Box[];
  /** True returns coordinates as fractions of the image's width and height. */
  normalized?: boolean;
  /** The name of a format of the service; 'posewire' unless given. */
  format?: string;
  /** Cancels the request. */
  signal?: AbortSignal;
}

/** The fields of a stream's start message, and what to call when it reconnects. */
export interface StreamOptions extends Omit<StartMessage, 'type'> {
  onReconnect?: OnReconnect;
}

// The service is at its limit, or a proxy in front of it does not reach it. Estimating poses changes nothing: it may be asked again.
const BUSY = new Set([429, 502, 503]);
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;

// A little longer than the deadline, so that the service itself reports that the deadline has passed.
const GRACE_MS = 5_000;

const EXPLAIN_MS = 5_000;

/** A client of one service. */
export class PoseClient {
  readonly #url: string;
  readonly #apiKey: string | undefined;
  readonly #timeoutMs: number;
  readonly #retries: number;
  readonly #headers: Record<string, string>;
  readonly #patienceMs: number;
  readonly #fetch: typeof fetch;
  readonly #WebSocket: WebSocketConstructor | undefined;

  /**
   * Throws a `TypeError` if the address is not valid.
   *
   * @param url of the service, such as `http://127.0.0.1:8000`; in a page of the service itself `location.origin`.
   */
  constructor(url: string | URL, options: ClientOptions = {}) {
    this.#url = new URL(url).href.replace(/\/+$/, '');
    this.#apiKey = options.apiKey;
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#retries = options.retries ?? 4;
    this.#headers = { ...options.headers, ...(options.apiKey ? { Authorization: `Bearer ${options.apiKey}` } : {}) };
    this.#patienceMs = options.patienceMs ?? 60_000;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#WebSocket = options.WebSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
  }

  /**
   * Estimate the poses of everyone in one image or several.
   *
   * Coordinates are pixels of the upright image. The answer is a `PoseResponse`; with format 'coco' a list of `CocoPerson`; with other formats
   * parsed JSON, a string for a text, or an `ArrayBuffer`.
   *
   * Throws a `ServiceError` if the service rejects the request or fails, `ConnectionLost` if it cannot be reached, and `UnexpectedAnswer`
   * if the server is not Posewire. An image that is not bytes is a `TypeError`. A signal throws its reason.
   */
  pose(images: Encoded | readonly Encoded[], options?: PoseOptions & { format?: 'posewire' }): Promise<PoseResponse>;
  pose(images: Encoded | readonly Encoded[], options: PoseOptions & { format: 'coco' }): Promise<CocoPerson[]>;
  pose(images: Encoded | readonly Encoded[], options: PoseOptions): Promise<unknown>;
  async pose(images: Encoded | readonly Encoded[], { boxes, signal, ...fields }: PoseOptions = {}): Promise<unknown> {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(fields)) if (value !== undefined) query.set(name, String(value));
    if (boxes !== undefined) query.set('boxes', JSON.stringify(boxes));
    const headers: Record<string, string> = { 'X-Request-Timeout-Ms': String(Math.max(1, Math.round(this.#timeoutMs))) };
    let body: Encoded | FormData;
    if (isList(images)) {
      body = new FormData();
      for (const image of images) {
        requireEncoded(image);
        body.append('image', image instanceof Blob ? image : new Blob([image as BlobPart]), 'image');
      }
    } else {
      requireEncoded(images);
      body = images;
      headers['Content-Type'] = 'application/octet-stream'; // the service reads the kind of image from its bytes
    }
    const target = query.size ? `/v1/pose?${query}` : '/v1/pose';
    const answer = await this.#ask(target, { method: 'POST', headers, body: body as BodyInit }, signal);
    return content(answer);
  }

  /** Return the models that the service runs: names, checksums, inputs, keypoints, and the device. Throws the errors of `pose`. */
  async models({ signal }: { signal?: AbortSignal } = {}): Promise<ModelsResponse> {
    return (await content(await this.#ask('/v1/models', {}, signal))) as ModelsResponse;
  }

  /** Return True if the service would answer an image now. It is asked once; false if it cannot be reached. */
  async ready(): Promise<boolean> {
    try {
      const answer = await this.#fetch(`${this.#url}/readyz`, { headers: this.#headers, signal: AbortSignal.timeout(this.#timeoutMs) });
      await answer.arrayBuffer(); // frees the connection
      return answer.ok;
    } catch {
      return false;
    }
  }

  /** Open a stream of frames. It connects at once, and reconnects until it is closed. */
  stream({ onReconnect = () => {}, ...fields }: StreamOptions = {}): PoseStream {
    if (!this.#WebSocket) {
      throw new PosewireError("there is no global WebSocket here: pass one, such as new PoseClient(url, { WebSocket }) with `ws`'s");
    }
    return new PoseStream(
      { type: 'start', ...fields },
      {
        url: `${this.#url.replace(/^http/, 'ws')}/v1/stream`,
        // A browser sends no headers with a WebSocket, so the key travels as a subprotocol.
        protocols: this.#apiKey ? ['posewire.v1', `posewire.key.${this.#apiKey}`] : [],
        WebSocket: this.#WebSocket,
        patienceMs: this.#patienceMs,
        onReconnect,
        explain: () => this.#explain(),
      },
    );
  }

  /** Return why the service rejects this client; null: it does not, or it cannot be asked. */
  async #explain(): Promise<PosewireError | null> {
    try {
      const answer = await this.#fetch(`${this.#url}/v1/models`, { headers: this.#headers, signal: AbortSignal.timeout(EXPLAIN_MS) });
      return answer.ok ? null : await errorOfAnswer(answer);
    } catch {
      return null;
    }
  }

  /** Send a request until it succeeds; a busy service is asked again after the time of its `Retry-After`. */
  async #ask(target: string, init: RequestInit & { headers?: Record<string, string> }, signal?: AbortSignal): Promise<Response> {
    const url = this.#url + target;
    let pauseMs = FIRST_PAUSE_MS;
    for (let attempt = 0; ; attempt += 1) {
      const last = attempt >= this.#retries;
      const timeout = AbortSignal.timeout(this.#timeoutMs + GRACE_MS);
      try {
        const answer = await this.#fetch(url, {
          ...init,
          headers: { ...this.#headers, ...init.headers },
          signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
        });
        if (answer.ok) return answer;
        if (last || !BUSY.has(answer.status)) throw await errorOfAnswer(answer);
        await answer.arrayBuffer(); // frees the connection
        pauseMs = (retryAfterS(answer) ?? 0) * 1000 || pauseMs;
      } catch (error) {
        if (error instanceof PosewireError) throw error;
        signal?.throwIfAborted();
        if (timeout.aborted) throw new ConnectionLost(`${this.#url} does not answer within ${this.#timeoutMs + GRACE_MS} ms`);
        if (last) throw new ConnectionLost(`${this.#url} cannot be reached: ${reasonOf(error)}`);
      }
      await pause(Math.min(pauseMs, LONGEST_PAUSE_MS), signal);
      pauseMs *= 2;
    }
  }
}

function isList(images: Encoded | readonly Encoded[]): images is readonly Encoded[] {
  return Array.isArray(images);
}

/** Return parsed JSON, a text, or bytes, as the media type says. */
async function content(answer: Response): Promise<unknown> {
  const mediaType = (answer.headers.get('Content-Type') ?? '').split(';')[0]!.trim().toLowerCase();
  try {
    if (mediaType === 'application/json' || mediaType.endsWith('+json')) return await answer.json();
    if (mediaType.startsWith('text/') || mediaType === 'application/xml' || mediaType.endsWith('+xml')) return await answer.text();
    return await answer.arrayBuffer();
  } catch (error) {
    if (error instanceof SyntaxError) throw new UnexpectedAnswer(`${answer.url} does not answer as this version of Posewire does`);
    throw new ConnectionLost(`the answer of ${answer.url} is not complete: ${reasonOf(error)}`);
  }
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as { message?: string; cause?: { message?: string; code?: string } };
  return cause?.message || cause?.code || message || String(error);
}

/** Wait; a signal ends the wait with its reason. */
function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, ms);
    if (signal?.aborted) abort();
    else signal?.addEventListener('abort', abort, { once: true });
  });
}
