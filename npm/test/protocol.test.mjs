// The stream's side of the protocol, against a server whose answers the tests decide.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';
import { ConnectionLost, PoseClient, PosewireError, UnexpectedAnswer } from 'posewire';
import { WebSocket, WebSocketServer } from 'ws';

const STARTED = { type: 'started', request_id: '1', model: { detector: 'd', pose: 'p' }, keypoints: ['nose'], skeleton: [], limits: { credits: 8 } };
const frame = (number) => new Uint8Array([number]);

/** A server; `next()` is its next connection, with `next()` for its next message. */
async function serving(t, port = 0) {
  const server = new WebSocketServer({ port, host: '127.0.0.1' });
  await once(server, 'listening');
  const connections = queue();
  server.on('connection', (socket) => {
    const messages = queue();
    socket.on('message', (data, binary) => messages.push(binary ? data[0] : JSON.parse(data)));
    connections.push({
      next: messages.next,
      close: (code, reason) => socket.close(code, reason),
      cut: () => socket.terminate(),
      send: (message) => socket.send(JSON.stringify(message)),
      answer: (seq, dropped = 0) =>
        socket.send(JSON.stringify({ type: 'result', seq, dropped, age_ms: 1, width: 1, height: 1, people: [], timings_ms: {} })),
    });
  });
  const close = () => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  };
  t.after(close);
  return { url: `http://127.0.0.1:${server.address().port}`, next: connections.next, close, port: server.address().port };
}

function queue() {
  const items = [];
  const waiters = [];
  return {
    push: (item) => (waiters.length ? waiters.shift()(item) : items.push(item)),
    next: () => (items.length ? Promise.resolve(items.shift()) : new Promise((resolve) => waiters.push(resolve))),
  };
}

async function started(server) {
  const connection = await server.next();
  assert.equal((await connection.next()).type, 'start');
  connection.send(STARTED);
  return connection;
}

function streamOf(t, url, options = {}, fields = {}) {
  const stream = new PoseClient(url, { WebSocket, ...options }).stream(fields);
  t.after(() => stream.close());
  return stream;
}

test('two frames are in flight at most, and of those that wait the newest is sent', async (t) => {
  const server = await serving(t);
  const stream = streamOf(t, server.url, {}, { track: false, max_people: 2 });
  assert.equal(stream.ready, false);
  const connection = await server.next();
  assert.deepEqual(await connection.next(), { type: 'start', track: false, max_people: 2 });
  connection.send(STARTED);
  await stream.started;
  assert.equal(stream.ready, true);
  for (let i = 0; i < 10; i += 1) assert.equal(stream.offer(frame(i)), i);
  assert.equal(stream.ready, false);
  assert.deepEqual([await connection.next(), await connection.next()], [0, 1]);
  connection.answer(1, 1);
  const results = stream[Symbol.asyncIterator]();
  assert.equal((await results.next()).value.frame, 1);
  assert.deepEqual(await connection.next(), 9); // frame 0 is settled, too
  assert.deepEqual(await connection.next(), { type: 'ack', seq: 1 });
  connection.answer(2);
  assert.equal((await results.next()).value.frame, 9);
});

test('a result is acknowledged when it is taken, not before', async (t) => {
  const server = await serving(t);
  const stream = streamOf(t, server.url);
  const connection = await started(server);
  await stream.started;
  stream.offer(frame(1));
  assert.equal(await connection.next(), 1);
  stream.offer(frame(2));
  assert.equal(await connection.next(), 2);
  connection.answer(0);
  connection.answer(1);
  while (!stream.ready) await new Promise(setImmediate);
  stream.offer(frame(3));
  assert.equal(await connection.next(), 3); // and no acknowledgement before it
  const results = stream[Symbol.asyncIterator]();
  await results.next();
  assert.deepEqual(await connection.next(), { type: 'ack', seq: 0 });
  await results.next();
  assert.deepEqual(await connection.next(), { type: 'ack', seq: 1 });
});

test('the stream reconnects with growing pauses, keeps the newest frame, and counts connections', async (t) => {
  const server = await serving(t);
  const pauses = [];
  const stream = streamOf(t, server.url, {}, { onReconnect: ({ error, pauseMs }) => pauses.push([error, pauseMs]) });
  const first = await started(server);
  await stream.started;
  stream.offer(frame(1));
  stream.offer(frame(2));
  assert.deepEqual([await first.next(), await first.next()], [1, 2]);
  first.cut();
  (await server.next()).close(1013, 'the service is at its limit');
  const third = await started(server);
  assert.equal(await third.next(), 2);
  third.answer(0);
  const { value } = await stream[Symbol.asyncIterator]().next();
  assert.deepEqual([value.frame, value.connection], [1, 1]);
  assert.ok(pauses[0][0] instanceof ConnectionLost);
  assert.deepEqual([pauses[1][0].type, pauses[1][0].message], ['overloaded', 'the service is at its limit']);
  assert.ok(pauses[0][1] >= 187 && pauses[0][1] <= 313 && pauses[1][1] >= 375 && pauses[1][1] <= 625, `${pauses}`);
});

test('an idle stream that the service closed opens again with the next frame', async (t) => {
  const server = await serving(t);
  const stream = streamOf(t, server.url, { patienceMs: 0 });
  const first = await started(server);
  await stream.started;
  first.close(4408, 'silent');
  while (stream.ready) await new Promise(setImmediate);
  stream.offer(frame(7));
  const second = await started(server);
  assert.equal(await second.next(), 7);
});

for (const [code, type] of [[1009, 'too-large'], [4400, 'bad-message'], [4415, 'bad-picture'], [4422, 'bad-parameter'], [4429, 'too-fast']]) {
  test(`close code ${code} ends the stream with ${type}`, async (t) => {
    const server = await serving(t);
    const stream = streamOf(t, server.url);
    (await started(server)).close(code, 'why');
    await assert.rejects(stream[Symbol.asyncIterator]().next(), { name: 'ServiceError', type, message: 'why' });
    await assert.rejects(stream.put(frame(1)), { type });
  });
}

test('the patience ends with the last error', async (t) => {
  const server = await serving(t);
  const stream = streamOf(t, server.url, { patienceMs: 0 });
  (await started(server)).close(1012, 'the service is stopping');
  await assert.rejects(stream[Symbol.asyncIterator]().next(), { type: 'draining' });
});

test('another kind of server is noticed', async (t) => {
  const server = await serving(t);
  const stream = streamOf(t, server.url);
  (await server.next()).send({ hello: 'world' });
  await assert.rejects(stream.started, UnexpectedAnswer);
  const other = streamOf(t, server.url);
  (await started(server)).answer(5);
  await assert.rejects(other[Symbol.asyncIterator]().next(), /a frame that it was not sent/);
});

test('an error of the frames is thrown when the frames before are answered', async (t) => {
  const server = await serving(t);
  const stream = streamOf(t, server.url);
  const connection = await started(server);
  function* camera() {
    yield frame(1);
    throw new RangeError('the camera is gone');
  }
  const results = stream.results(camera(), { every: true });
  const first = results.next();
  assert.equal(await connection.next(), 1);
  connection.answer(0);
  assert.equal((await first).value.frame, 0);
  await assert.rejects(results.next(), /the camera is gone/);
  await assert.rejects(stream.results(['path.jpg']).next(), TypeError);
});

test('close ends the iteration and the connection', async (t) => {
  const server = await serving(t);
  const stream = streamOf(t, server.url);
  await started(server);
  const next = stream[Symbol.asyncIterator]().next();
  stream.close();
  assert.deepEqual(await next, { value: undefined, done: true });
  await assert.rejects(stream.put(frame(1)), ConnectionLost);
});

test('a busy service is asked again, after its Retry-After', async (t) => {
  const statuses = [503, 502, 200];
  const http = createServer((request, response) => {
    request.resume();
    response.writeHead(statuses.shift(), { 'Content-Type': 'application/json', 'Retry-After': '0' });
    response.end('{"images": []}');
  }).listen(0, '127.0.0.1');
  t.after(() => http.close());
  await once(http, 'listening');
  const url = `http://127.0.0.1:${http.address().port}`;
  assert.deepEqual(await new PoseClient(url).pose(frame(1)), { images: [] });
  statuses.push(503);
  await assert.rejects(new PoseClient(url, { retries: 0 }).pose(frame(1)), UnexpectedAnswer); // no problem+json
});

test('without a WebSocket the error says what to pass', { skip: 'WebSocket' in globalThis }, () => {
  assert.throws(() => new PoseClient('http://127.0.0.1:9').stream(), (error) => error instanceof PosewireError && /`ws`/.test(error.message));
});
