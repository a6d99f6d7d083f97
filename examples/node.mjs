// Stream image files as the frames of one video, and print one JSON line for each: who is where.
//
//     npm install posewire ws
//     node examples/node.mjs http://127.0.0.1:8000 frames/*.jpg
//
// The package `ws` is not needed from Node 22 on, which has a WebSocket of its own.

import { readFile } from 'node:fs/promises';
import { PoseClient } from 'posewire';

const [url, ...files] = process.argv.slice(2);
if (!files.length) {
  console.error('usage: node node.mjs URL IMAGE...');
  process.exit(2);
}

async function* frames() {
  for (const file of files) yield readFile(file);
}

const WebSocket = globalThis.WebSocket ?? (await import('ws')).WebSocket;
const stream = new PoseClient(url, { WebSocket }).stream();
try {
  for await (const { frame, latency_ms, people, error } of stream.results(frames(), { every: true })) {
    if (error) console.error(`${files[frame]}: ${error.message}`);
    console.log(JSON.stringify({ file: files[frame], latency_ms, people: people.map(({ track_id, box, score }) => ({ track_id, box, score })) }));
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  stream.close();
}
