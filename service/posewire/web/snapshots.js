// The newest images of the tiles, in turn. A browser opens six connections to a host at a time (HTTP/1.1): the events and the enlarged
// camera hold one each, so images get two, and the rest is free for what the user does.

import { snapshotOf } from './cameras.js';

const AT_A_TIME = 2;
const PATIENCE_MS = 5000;
const SHORTEST_MS = 400; // from one image of a tile to the next
const SHARE_MS = 125; // for each tile in view: the service draws at most eight images a second for one wall

/** Loads images for the tiles that are in view, whose cameras have new frames. */
export class Snapshots {
  #tiles;
  #loading = new Set();
  #timer = 0;
  #running = false;

  /** @param {() => Iterable<import('./tiles.js').Tile>} tiles returns those of the wall. */
  constructor(tiles) {
    this.#tiles = tiles;
  }

  /** Load images from now on. */
  start() {
    this.#running = true;
    this.#next();
  }

  /** Load no more images. */
  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  #next() {
    clearTimeout(this.#timer);
    if (!this.#running) return;
    const now = performance.now();
    const seen = [...this.#tiles()].filter(({ inView }) => inView);
    const pause = Math.max(SHORTEST_MS, SHARE_MS * seen.length);
    const due = seen.filter((tile) => !this.#loading.has(tile) && hasNewImage(tile)).sort((a, b) => a.asked - b.asked);
    for (const tile of due.filter(({ asked }) => asked + pause <= now || !asked).slice(0, AT_A_TIME - this.#loading.size)) this.#load(tile);
    this.#timer = setTimeout(() => this.#next(), SHORTEST_MS / 4);
  }

  async #load(tile) {
    this.#loading.add(tile);
    tile.asked = performance.now();
    const { frames } = tile.camera.status;
    try {
      tile.paint(await snapshotOf(tile.name, AbortSignal.timeout(PATIENCE_MS)));
      tile.painted = frames;
    } catch {
      // The wall asks for the states all the time, and reports what is wrong. The image is tried again in its turn.
    } finally {
      this.#loading.delete(tile);
    }
    this.#next();
  }
}

/** True if the service would answer at once with an image that the tile does not show. */
function hasNewImage({ camera, painted }) {
  if (!camera || camera.status.age_s === null) return false;
  return camera.status.state === 'live' || painted !== camera.status.frames;
}
