/** Client of Posewire, a service for real-time human pose estimation. */

export * from './client.js';
export { ConnectionLost, PosewireError, ServiceError, UnexpectedAnswer } from './errors.js';
export type { Encoded } from './inputs.js';
export type * from './messages.js';
export { type OnReconnect, PoseStream, type StreamResult, type WebSocketConstructor, type WebSocketLike } from './stream.js';
