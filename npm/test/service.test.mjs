// Against a running service: POSEWIRE_URL, and one that needs the key POSEWIRE_KEY at POSEWIRE_KEYED_URL.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { before, test } from 'node:test';
import { ConnectionLost, PoseClient, ServiceError, UnexpectedAnswer } from 'posewire';
import { WebSocket } from 'ws';

const { POSEWIRE_URL, POSEWIRE_KEYED_URL, POSEWIRE_KEY, POSEWIRE_IMAGE } = process.env;
const client = new PoseClient(POSEWIRE_URL, { WebSocket });
let jpeg;

before(async () => {
  jpeg = await readFile(POSEWIRE_IMAGE);
});

test('an image is a buffer, an array buffer or a blob', async () => {
  const copy = new Uint8Array(jpeg);
  for (const image of [jpeg, copy, copy.buffer, new Blob([jpeg], { type: 'image/jpeg' })]) {
    const { images, model } = await client.pose(image, { max_people: 1 });
    assert.deepEqual(images.map(({ width, people }) => [width, people.length]), [[512, 1]]);
    assert.equal(images[0].people[0].keypoints[0].name, 'nose');
    assert.ok(model.pose);
  }
});

test('several images are answered in their order', async () => {
  const { images } = await client.pose([jpeg, new Blob([jpeg])], { min_keypoint_score: 0.3 });
  assert.equal(images.length, 2);
  assert.ok(images.every(({ people }) => people[0].keypoints.every(({ score }) => score >= 0.3)));
});

test('boxes skip the detector', async () => {
  const { images } = await client.pose(jpeg, { boxes: [[60, 0, 300, 500]] });
  assert.deepEqual(images[0].people.map(({ box }) => box), [[60, 0, 300, 500]]);
});

test('other formats are returned as they are', async () => {
  const [row] = await client.pose(jpeg, { format: 'coco' });
  assert.equal(row.keypoints.length, 51);
});

test('a problem is a ServiceError with its type', async () => {
  await assert.rejects(client.pose(new Uint8Array([1, 2, 3])), (error) => {
    assert.ok(error instanceof ServiceError);
    assert.deepEqual([error.type, error.status, error.image], ['bad-picture', 400, null]);
    assert.match(error.message, /JPEG/);
    return true;
  });
  await assert.rejects(client.pose([jpeg, new Uint8Array([1])]), { type: 'bad-picture', image: 1 });
  await assert.rejects(client.pose(jpeg, { max_people: 0 }), { type: 'bad-parameter', status: 422 });
  await assert.rejects(client.pose(jpeg, { format: 'no-such-format' }), { type: 'bad-parameter' });
  await assert.rejects(client.pose('image.jpg'), TypeError);
});

test('the models are listed, and the service is ready', async () => {
  const { models } = await client.models();
  assert.equal(models.find(({ task }) => task === 'pose').keypoints[0], 'nose');
  assert.equal(await client.ready(), true);
});

test('what is not Posewire, or is not there, is an error', async () => {
  await assert.rejects(new PoseClient(`${POSEWIRE_URL}/nowhere`).pose(jpeg), UnexpectedAnswer);
  const nobody = new PoseClient('http://127.0.0.1:9', { retries: 0, patienceMs: 0, WebSocket });
  await assert.rejects(nobody.pose(jpeg), ConnectionLost);
  assert.equal(await nobody.ready(), false);
  await assert.rejects(nobody.stream().started, ConnectionLost);
  await assert.rejects(new PoseClient(`${POSEWIRE_URL}/nowhere`, { WebSocket }).stream().started, UnexpectedAnswer);
  await assert.rejects(new PoseClient('ftp://127.0.0.1', { WebSocket }).stream().started, /not the address of a stream/);
  assert.throws(() => new PoseClient('127.0.0.1:8000'), TypeError);
});

test('a signal cancels a request with its reason', async () => {
  const reason = new Error('no longer needed');
  await assert.rejects(client.pose(jpeg, { signal: AbortSignal.abort(reason) }), reason);
});

test('every frame of a file is answered, with identities', async () => {
  const stream = client.stream({ max_people: 1 });
  const { keypoints, skeleton } = await stream.started;
  assert.equal(keypoints[0], 'nose');
  assert.equal(skeleton[0].length, 2);
  const results = [];
  for await (const result of stream.results(Array(5).fill(jpeg), { every: true })) results.push(result);
  assert.deepEqual(results.map(({ frame }) => frame), [0, 1, 2, 3, 4]);
  assert.deepEqual(new Set(results.map(({ people }) => people[0].track_id)), new Set([1]));
  assert.ok(results.every(({ latency_ms, answer, error }) => latency_ms > 0 && answer.width === 512 && error === null));
  stream.close();
  assert.equal((await stream[Symbol.asyncIterator]().next()).done, true);
});

test('a frame that is no image has an error of its own', async () => {
  const stream = client.stream();
  stream.offer(new Uint8Array([1, 2, 3]));
  for await (const { error, answer, people } of stream) {
    assert.deepEqual([error.type, answer, people], ['bad-picture', null, []]);
    break;
  }
  stream.offer(new Blob([jpeg]));
  for await (const { people } of stream) {
    assert.ok(people.length > 0);
    stream.close();
  }
});

test('a start message that is not valid ends the stream', async () => {
  const stream = client.stream({ max_people: 0 });
  await assert.rejects(stream.started, { name: 'ServiceError', type: 'bad-parameter', message: /max_people/ });
  await assert.rejects(stream[Symbol.asyncIterator]().next(), { type: 'bad-parameter' });
});

test('the key is sent with requests and streams', async () => {
  const holder = new PoseClient(POSEWIRE_KEYED_URL, { apiKey: POSEWIRE_KEY, WebSocket });
  assert.equal((await holder.pose(jpeg)).images.length, 1);
  const stream = holder.stream();
  await stream.started;
  stream.close();
  for (const stranger of [new PoseClient(POSEWIRE_KEYED_URL, { WebSocket }), new PoseClient(POSEWIRE_KEYED_URL, { apiKey: 'pw_x', WebSocket })]) {
    await assert.rejects(stranger.models(), { type: 'unauthorized', status: 401 });
    await assert.rejects(stranger.stream().started, { type: 'unauthorized' });
  }
});
