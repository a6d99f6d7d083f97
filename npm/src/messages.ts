// The messages and errors of the service. `make npm-messages` makes this file from the schemas of the service.
// Coordinates are pixels of the upright image, after EXIF orientation.

/**
 * The last part of a problem's `type`, `urn:posewire:problem:…`.
 */
export type ProblemType =
  | 'bad-body'
  | 'bad-host'
  | 'bad-message'
  | 'bad-offer'
  | 'bad-parameter'
  | 'bad-picture'
  | 'bad-request'
  | 'bad-video'
  | 'camera-exists'
  | 'client-gone'
  | 'dead'
  | 'deadline-exceeded'
  | 'decoder-failed'
  | 'draining'
  | 'forbidden-place'
  | 'foreign-origin'
  | 'headers-too-large'
  | 'inference-failed'
  | 'internal'
  | 'misdirected'
  | 'no-space'
  | 'no-such-camera'
  | 'no-such-session'
  | 'not-acceptable'
  | 'not-installed'
  | 'not-ready'
  | 'out-of-memory'
  | 'overloaded'
  | 'precondition-failed'
  | 'precondition-required'
  | 'rate-limited'
  | 'state-unavailable'
  | 'target-too-long'
  | 'timed-out'
  | 'too-fast'
  | 'too-large'
  | 'too-many-streams'
  | 'unauthorized'
  | 'unknown-model'
  | 'unsupported-encoding'
  | 'unsupported-media-type';

/**
 * The client has processed this answer and all before it.
 */
export interface AckMessage {
  type: 'ack';
  /**
   * The number of the answered frame.
   */
  seq: number;
}
/**
 * One row of COCO's results list; `image_id` is the image's index in the request.
 */
export interface CocoPerson {
  image_id: number;
  /**
   * 1: COCO's category of people.
   */
  category_id: number;
  /**
   * x, y, score for each keypoint of the pose model's set.
   */
  keypoints: number[];
  score: number;
  /**
   * x, y, width, height, in pixels of the upright image.
   *
   * @minItems 4
   * @maxItems 4
   */
  bbox: [number, number, number, number];
}
/**
 * The answer to a frame without a result; the stream continues.
 */
export interface ErrorMessage {
  /**
   * The number of the frame on this connection, from 0.
   */
  seq: number;
  /**
   * Frames dropped since the last answer.
   */
  dropped: number;
  /**
   * Milliseconds from the frame's last byte to the sending of this answer.
   */
  age_ms: number;
  type: 'error';
  problem: StreamProblem;
}
/**
 * The fields of an error (RFC 9457).
 */
export interface StreamProblem {
  /**
   * A URN that names the kind of error, such as urn:posewire:problem:bad-picture.
   */
  type: string;
  /**
   * The same for every error of the type.
   */
  title: string;
  /**
   * The HTTP status.
   */
  status: number;
  /**
   * What is wrong, and what to do.
   */
  detail: string;
}
/**
 * Everyone in one image: best first, or in the order of the caller's boxes.
 */
export interface ImageOut {
  /**
   * Pixels of the upright image.
   */
  width: number;
  /**
   * Pixels of the upright image.
   */
  height: number;
  /**
   * Empty if nobody is in the image.
   */
  people: PersonOut[];
  timings_ms: TimingsOut;
}
/**
 * One person.
 */
export interface PersonOut {
  /**
   * x, y, width, height, in pixels of the upright image.
   *
   * @minItems 4
   * @maxItems 4
   */
  box: [number, number, number, number];
  /**
   * 0..1: the box's score times the mean of the keypoint scores above 0.2.
   */
  score: number;
  /**
   * In the order of the keypoint set, without those below `min_keypoint_score`.
   */
  keypoints: KeypointOut[];
}
/**
 * One keypoint.
 */
export interface KeypointOut {
  /**
   * A name of the model's keypoint set, such as nose or left_elbow.
   */
  name: string;
  /**
   * Pixels of the upright image, from its left edge.
   */
  x: number;
  /**
   * Pixels of the upright image, from its upper edge.
   */
  y: number;
  /**
   * 0..1: the heatmap's peak.
   */
  score: number;
}
/**
 * The time of each stage of one image, in milliseconds.
 */
export interface TimingsOut {
  /**
   * Decoding of the image.
   */
  decode: number;
  /**
   * Waiting for a worker or a model.
   */
  queue: number;
  /**
   * The detector.
   */
  detect: number;
  /**
   * The crops, and the pose model.
   */
  pose: number;
  /**
   * From the admission to the result.
   */
  total: number;
}
/**
 * The names of the models that produced the answer.
 */
export interface ModelNames {
  detector: string;
  pose: string;
}
/**
 * One served model.
 */
export interface ModelOut {
  /**
   * Of the manifest.
   */
  name: string;
  /**
   * detector or pose.
   */
  task: string;
  title: string;
  /**
   * What the model runs on: the name of ONNX Runtime's provider, or Posewire's kernels.
   */
  provider: string;
  /**
   * The file of the model that runs here: the ONNX file, or the file for Posewire's kernels.
   */
  file: string;
  /**
   * The SHA-256 of that file.
   */
  sha256: string;
  licence: string;
  /**
   * Pixels.
   */
  input_height: number;
  /**
   * Pixels.
   */
  input_width: number;
  /**
   * Name of the keypoint set, such as coco-17; null: not a pose model.
   */
  keypoint_set: string | null;
  /**
   * Names of the keypoints; null: not a pose model.
   */
  keypoints: string[] | null;
  /**
   * Pairs of indices into `keypoints` that a limb connects; null: not a pose model.
   */
  skeleton: [number, number][] | null;
}
/**
 * The answer of GET /v1/models.
 */
export interface ModelsResponse {
  /**
   * cpu, cuda or tensorrt; none: the models are not loaded yet.
   */
  device: string;
  /**
   * The reason for this device.
   */
  device_reason: string;
  /**
   * Number of worker processes; 0: the models run in the service's process.
   */
  workers: number;
  /**
   * The name of the pair of both models; null: they are not a pair of the manifest.
   */
  pair: string | null;
  models: ModelOut[];
}
/**
 * The answer of POST /v1/pose, format=posewire.
 */
export interface PoseResponse {
  /**
   * The same as the header X-Request-Id.
   */
  request_id: string;
  model: ModelNames;
  /**
   * In the order of the request.
   */
  images: ImageOut[];
}
/**
 * Everyone in one frame.
 */
export interface ResultMessage {
  /**
   * The number of the frame on this connection, from 0.
   */
  seq: number;
  /**
   * Frames dropped since the last answer.
   */
  dropped: number;
  /**
   * Milliseconds from the frame's last byte to the sending of this answer.
   */
  age_ms: number;
  type: 'result';
  width: number;
  height: number;
  people: TrackedPerson[];
  timings_ms: TimingsOut;
}
/**
 * One person of a stream.
 */
export interface TrackedPerson {
  /**
   * x, y, width, height, in pixels of the upright image.
   *
   * @minItems 4
   * @maxItems 4
   */
  box: [number, number, number, number];
  /**
   * 0..1: the box's score times the mean of the keypoint scores above 0.2.
   */
  score: number;
  /**
   * In the order of the keypoint set, without those below `min_keypoint_score`.
   */
  keypoints: KeypointOut[];
  /**
   * The same number from frame to frame; null: not tracked.
   */
  track_id: number | null;
}
/**
 * The client's first message.
 */
export interface StartMessage {
  /**
   * Give each person a track_id that stays the same from frame to frame.
   */
  track?: boolean;
  /**
   * Reduce the jitter of the keypoints; only with track.
   */
  smooth?: boolean;
  /**
   * Limit of people per frame; the best are returned.
   */
  max_people?: number | null;
  /**
   * People below this score are left out.
   */
  min_detection_score?: number | null;
  /**
   * Keypoints below this score are left out.
   */
  min_keypoint_score?: number;
  type: 'start';
}
/**
 * The answer to the start message.
 */
export interface StartedMessage {
  type: 'started';
  /**
   * The id of the stream in the service's log.
   */
  request_id: string;
  model: ModelNames;
  /**
   * Names of the keypoints; `skeleton` has indices into this list.
   */
  keypoints: string[];
  /**
   * Pairs of keypoints that a limb connects.
   */
  skeleton: [number, number][];
  limits: StreamLimits;
}
/**
 * The limits of one stream.
 */
export interface StreamLimits {
  /**
   * Bytes of one frame.
   */
  max_bytes: number;
  /**
   * Pixels of one frame.
   */
  max_pixels: number;
  /**
   * People of one frame.
   */
  max_people: number;
  /**
   * Limit of answers without an acknowledgement.
   */
  credits: number;
  /**
   * Age at which a frame is dropped.
   */
  deadline_ms: number;
  /**
   * Seconds without a message after which the stream is closed.
   */
  idle_s: number;
}

/** The close codes of a stream: the problem, and whether the same stream would be rejected again. */
export const CLOSES: Readonly<Record<number, { type: ProblemType; final: boolean }>> = {
  1009: { type: 'too-large', final: true },
  1012: { type: 'draining', final: false },
  1013: { type: 'overloaded', final: false },
  4400: { type: 'bad-message', final: true },
  4401: { type: 'unauthorized', final: true },
  4403: { type: 'foreign-origin', final: true },
  4408: { type: 'timed-out', final: false },
  4415: { type: 'bad-picture', final: true },
  4422: { type: 'bad-parameter', final: true },
  4429: { type: 'too-fast', final: true },
  4430: { type: 'too-many-streams', final: false },
};
