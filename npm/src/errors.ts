// Every error that the client throws on purpose.

import { CLOSES, type ProblemType } from './messages.js';

/** Base of all errors of the client. */
export class PosewireError extends Error {
  override name = 'PosewireError';
}

/** The service cannot be reached, or the connection was lost. */
export class ConnectionLost extends PosewireError {
  override name = 'ConnectionLost';
}

/** What answers is not a Posewire of this version. */
export class UnexpectedAnswer extends PosewireError {
  override name = 'UnexpectedAnswer';
}

/** A problem (RFC 9457) that the service reports; `type` says which. */
export class ServiceError extends PosewireError {
  override name = 'ServiceError';

  constructor(
    /** What is wrong, such as 'bad-picture'. */
    readonly type: ProblemType,
    /** One line: the problem and the remedy. */
    detail: string,
    /** The HTTP status; null: the close code of a stream reported the problem. */
    readonly status: number | null = null,
    /** Index in the request of the image that caused the error. */
    readonly image: number | null = null,
    /** Seconds after which the service may be asked again. */
    readonly retryAfterS: number | null = null,
  ) {
    super(detail);
  }
}

/** The last part of `urn:posewire:problem:…`. */
export function problemType(urn: string): ProblemType {
  return urn.slice(urn.lastIndexOf(':') + 1) as ProblemType;
}

/** Return the error of an HTTP answer that is not a success. */
export async function errorOfAnswer(answer: Response): Promise<ServiceError | UnexpectedAnswer> {
  let problem: unknown;
  try {
    problem = await answer.json();
  } catch {
    problem = null;
  }
  if (answer.status === 404 || !isProblem(problem)) {
    return new UnexpectedAnswer(`${answer.url} answers with status ${answer.status}: it is not an address of Posewire`);
  }
  const image = typeof problem.image === 'number' ? problem.image : null;
  return new ServiceError(problemType(problem.type), problem.detail, answer.status, image, retryAfterS(answer));
}

/** The whole seconds of `Retry-After`; null if it is missing or a date. */
export function retryAfterS(answer: Response): number | null {
  const given = answer.headers.get('Retry-After') ?? '';
  return /^\d+$/.test(given) ? Number(given) : null;
}

/** Return the error that ended a stream, and whether the same stream would be rejected again. */
export function errorOfClose(code: number, reason: string): { error: ServiceError | ConnectionLost; final: boolean } {
  const known = CLOSES[code];
  if (known) return { error: new ServiceError(known.type, reason || `the service closed the stream: ${known.type}`), final: known.final };
  const text = code === 1006 ? 'the connection was lost' : `the service closed the connection with code ${code}: ${reason || 'no reason given'}`;
  return { error: new ConnectionLost(text), final: false };
}

function isProblem(value: unknown): value is { type: string; detail: string; image?: unknown } {
  const fields = value as Record<string, unknown> | null;
  return typeof fields?.['type'] === 'string' && typeof fields['detail'] === 'string';
}
