// The page: controls, sources, streams and messages.

import { recall, remember } from './choices.js';
import { handleDrops } from './drop.js';
import { FATES, Meter } from './meter.js';
import { askForKey, complain, hush, say, tickNotice } from './notices.js';
import { address, holdKey, keyed, KeyNeeded, poseModel, poseOfImage, typeOf } from './service.js';
import { clear, draw } from './skeleton.js';
import { curlFor, pythonFor } from './snippets.js';
import { cameraObstacle, eachFrame, Grabber, openCamera, openVideo, release, SourceError } from './sources.js';
import { PoseStream } from './stream.js';
import { copyText, saveImage } from './taking.js';
import { handleTheme } from './theme.js';

const TICK_MS = 250;
const REASON_MS = 5000; // the wait for the reason why a stream cannot connect
const REFUSALS = 3; // so many in a row are reported: a single frame may be late
const SILENT_MS = 2000; // a request without an answer for so long is reported
// Skeletons that are later than this are drawn on their own frame. Two limits, so that the page does not go to and fro.
const STEADY_FROM_MS = 150;
const LIVE_UNTIL_MS = 110;

const $ = (id) => document.getElementById(id);
const video = $('video');
const image = $('image');
const still = $('still');
const overlay = $('overlay');
const figures = ['latency', 'server', 'rate', 'source', 'people', 'drops', 'age', ...FATES.map((fate) => `total-${fate}`)];
const meter = new Meter(Object.fromEntries(figures.map((id) => [id, $(id)])), $('spark'));
const grabber = new Grabber();
const look = { names: [], skeleton: [], confidence: 0.2, labels: true, mirrored: false };

let source = new AbortController(); // of the present source: late answers for an earlier one are ignored
let use = null; // {kind, name, type} of the source, for curl and Python
let again = null; // starts the same source again
let stream = null;
let stopFrames = () => {};
let tick = 0;
let facing = 'user';
let last = null; // the answer that is on the screen: {answer, result, image}, with the frame or still image of the result
let trouble = null; // what a notice about the connection ticks: a function that returns its text
let timing = recall('timing') ?? 'auto';
let slow = false; // the latency is above the limit of `auto`

// ---- messages

function fail(error, retry = null) {
  stop();
  if (error instanceof KeyNeeded) {
    askForKey(error.message, (key) => {
      holdKey(key);
      again();
    });
    return;
  }
  say('bad', 'Stopped');
  if (!(error instanceof SourceError)) console.error(error);
  complain(error.title ?? 'That did not work', error.message, retry && { label: 'Try again', run: retry });
}

const countText = (count) => (count === 1 ? '1 person' : `${count} people`);
const whole = (seconds) => `${Math.max(0, Math.round(seconds))} s`;
const secondsSince = (at) => (performance.now() - at) / 1000;

/** Report trouble with the connection; `ticking` returns the text that changes. */
function report(state, title, text, action, ticking) {
  say('waiting', state);
  complain(title, text, action);
  trouble = ticking;
  tickNotice(trouble());
}

function recovered() {
  if (!trouble) return;
  trouble = null;
  hush();
}

/** The age of the last answer, as a sentence. */
const ageText = () => (meter.age === null ? 'There was no answer yet.' : `The last answer came ${whole(meter.age)} ago.`);

/** Wait for a request; report it if the server is silent meanwhile. */
async function patiently(request) {
  const { signal } = source;
  const started = performance.now();
  const timer = setTimeout(() => {
    if (signal.aborted) return;
    report('Server does not answer', 'The server does not answer', 'The page keeps waiting.', { label: 'Try again', run: again }, () =>
      `No answer for ${whole(secondsSince(started))}.`,
    );
  }, SILENT_MS);
  try {
    return await request;
  } finally {
    clearTimeout(timer);
    if (!signal.aborted) recovered();
  }
}

// ---- from source to screen

/** Stop the present source, and return the signal that ends the next one. */
function stop() {
  source.abort();
  source = new AbortController();
  stopFrames();
  stopFrames = () => {};
  clearInterval(tick);
  stream?.close();
  stream = null;
  release(video);
  if (image.src) URL.revokeObjectURL(image.src);
  image.removeAttribute('src');
  setLast(null);
  $('taken').textContent = '';
  use = trouble = null;
  slow = false;
  meter.clear();
  hush();
  for (const id of ['frame', 'dock', 'panel', 'pause', 'flip']) $(id).hidden = true;
  $('welcome').hidden = false;
  document.body.dataset.view = 'start';
  say('idle', 'Ready');
  return source.signal;
}

/** Begin with a source; `start` starts it again. Return the signal that ends it. */
function begin(start, text, { kind, name, type }) {
  const signal = stop();
  again = start;
  use = { kind, name, type };
  say('waiting', text);
  tick = setInterval(() => {
    if (stream) meter.render();
    if (trouble) tickNotice(trouble());
  }, TICK_MS);
  return signal;
}

/** Show an element of the view, with its own aspect ratio. */
function show(element, width, height) {
  $('welcome').hidden = true;
  for (const id of ['frame', 'dock', 'panel']) $(id).hidden = false;
  document.body.dataset.view = element === video ? 'live' : 'image';
  video.hidden = element !== video;
  image.hidden = element !== image;
  $('timing').hidden = $('about').hidden = element !== video;
  $('stage').style.setProperty('--ratio', width / height);
}

function mirror(on) {
  look.mirrored = $('mirror').checked = on;
  $('view').classList.toggle('mirrored', on);
  redraw();
}

function setLast(next) {
  if (last?.image instanceof ImageBitmap) last.image.close();
  last = next;
  $('take').hidden = !last;
  redraw();
}

/** True if skeletons are drawn on the frame that they belong to, and not on the live video. */
const steady = () => video.paused || timing === 'steady' || (timing === 'auto' && slow);

/** Draw the newest answer. While the server is silent, its skeletons belong to nothing on the screen. */
function redraw() {
  const stale = trouble !== null;
  const delayed = Boolean(last) && !stale && last.image instanceof ImageBitmap && steady();
  still.hidden = !delayed;
  if (delayed) {
    const { width, height } = last.image;
    if (still.width !== width || still.height !== height) Object.assign(still, { width, height });
    still.getContext('2d', { alpha: false }).drawImage(last.image, 0, 0);
  }
  if (last && !stale) draw(overlay, last.result, look);
  else clear(overlay);
  const late = meter.latency === null ? '' : ` ${meter.latency.toFixed(0)} ms`;
  $('timing-now').textContent = steady()
    ? `Now steady: the image is${late} late, and fits its skeletons.`
    : `Now live: the video is not late; the skeletons are${late} behind it.`;
}

function startStream() {
  stream?.close();
  const mine = new PoseStream({ track: true, smooth: $('smooth').checked });
  const { signal } = source;
  let refusals = 0; // in a row
  let known = false; // the stream was open once
  stream = mine;
  say('waiting', 'Connecting …');
  const retry = { label: 'Try now', run: () => mine.retry() };
  const on = (type, act) => mine.addEventListener(type, ({ detail }) => stream === mine && act(detail));
  on('started', ({ keypoints, skeleton }) => {
    Object.assign(look, { names: keypoints, skeleton });
    known = true;
    recovered();
    say('live', 'Live');
  });
  on('result', ({ answer, frame, latency_ms }) => {
    refusals = 0;
    recovered();
    meter.result(answer, latency_ms);
    slow = meter.latency > (slow ? LIVE_UNTIL_MS : STEADY_FROM_MS);
    setLast({ answer, result: answer, image: frame.image });
    say('live', `Live: ${countText(answer.people.length)}`);
  });
  mine.addEventListener('lost', ({ detail: { frame, cause, problem } }) => {
    frame.image.close();
    if (stream !== mine) return;
    meter.drop(cause);
    if (cause !== 'refused') return;
    refusals += 1;
    if (refusals !== REFUSALS) return;
    report('Server refuses frames', problem.title, `${problem.detail}.`, null, ageText);
    redraw();
  });
  on('silent', ({ unsent }) => {
    refusals = 0;
    const text = unsent ? 'The network has not taken the last frame yet. It may be slow or gone.' : 'It may be overloaded, stopped or unreachable.';
    report('Server does not answer', 'The server does not answer', text, retry, ageText);
    redraw();
  });
  on('waiting', ({ code, reason, until }) => {
    const title = { 1013: 'The server is busy', 1012: 'The server is restarting', 4430: 'Too many streams' }[code] ?? (known ? 'The connection was lost' : 'The stream does not open');
    report('Reconnecting …', title, reason ? `${reason}.` : '', retry, () => `Next try in ${whole((until - performance.now()) / 1000)}. ${ageText()}`);
    redraw();
    // A browser does not report why a handshake failed; a request over HTTP shows the reason.
    poseModel(AbortSignal.any([signal, AbortSignal.timeout(REASON_MS)])).catch((error) => error instanceof KeyNeeded && stream === mine && fail(error));
  });
  on('connecting', () => {
    say('waiting', 'Connecting …');
    trouble = () => `Connecting … ${ageText()}`;
  });
  on('failed', ({ code, reason }) => {
    fail(new SourceError('The server closed the stream', `${reason || 'No reason was given'} (code ${code}).`), again);
  });
}

/** Send frames of the video as fast as they are answered. */
function run(signal) {
  meter.clear();
  startStream();
  stopFrames = eachFrame(video, async () => {
    if (video.paused) return;
    if (!stream.ready || grabber.busy) {
      meter.drop(stream.connected ? 'waiting' : 'connection');
      return;
    }
    const grabbed = await grabber.grab(video);
    if (!grabbed) return;
    if (signal.aborted) grabbed.frame.image.close();
    else stream.send(grabbed.data, grabbed.frame);
  });
}

async function useCamera() {
  const signal = begin(useCamera, 'Waiting for the camera …', { kind: 'camera', name: '', type: '' });
  try {
    await patiently(poseModel(signal));
    const { front, several } = await openCamera(video, facing);
    if (signal.aborted) return;
    show(video, video.videoWidth, video.videoHeight);
    mirror(front);
    $('flip').hidden = !several;
    run(signal);
    $('stop').focus({ preventScroll: true });
  } catch (error) {
    if (!signal.aborted) fail(error, useCamera);
  }
}

async function useVideo(file) {
  const start = () => useVideo(file);
  const signal = begin(start, 'Opening …', { kind: 'video', name: file.name, type: file.type });
  try {
    await patiently(poseModel(signal));
    await openVideo(video, file);
    if (signal.aborted) return;
    show(video, video.videoWidth, video.videoHeight);
    mirror(false);
    $('pause').hidden = false;
    run(signal);
    $('stop').focus({ preventScroll: true });
  } catch (error) {
    if (!signal.aborted) fail(error, start);
  }
}

async function useImage(file) {
  const start = () => useImage(file);
  const signal = begin(start, 'Estimating …', { kind: 'image', name: file.name, type: typeOf(file) });
  const started = performance.now();
  try {
    image.src = URL.createObjectURL(file);
    const { keypoints, skeleton } = await patiently(poseModel(signal));
    const [answer] = await Promise.all([patiently(poseOfImage(file, signal)), image.decode().catch(() => {})]);
    if (signal.aborted) return;
    const [result] = answer.images;
    Object.assign(look, { names: keypoints, skeleton });
    show(image, result.width, result.height);
    mirror(false);
    setLast({ answer, result, image });
    meter.image(result, performance.now() - started);
    say('live', `Found ${countText(result.people.length)}`);
    $('stop').focus({ preventScroll: true });
  } catch (error) {
    if (!signal.aborted) fail(error, start);
  }
}

function useFile(file) {
  if (file.type.startsWith('video/')) useVideo(file);
  else if (file.type.startsWith('image/')) useImage(file);
  else complain('Not a video or an image', `${file.name} cannot be shown here.`);
}

// ---- save and copy

const stamp = () => new Date().toISOString().slice(0, 19).replaceAll(':', '-');

for (const type of ['png', 'jpeg']) {
  $(`save-${type}`).addEventListener('click', async () => {
    const name = use.name ? use.name.replace(/\.[^.]*$/, '') : stamp();
    await saveImage(last.image, last.result, look, `image/${type}`, `${name}.pose`);
    $('taken').textContent = 'Saved.';
  });
}

const TEXTS = {
  json: ['JSON', () => `${JSON.stringify(last.answer, null, 2)}\n`],
  curl: ['The command', () => curlFor(useNow())],
  python: ['The program', () => pythonFor(useNow())],
};

/** The source with the address and the options of now. */
const useNow = () => ({ ...use, address: address(), key: keyed(), smooth: $('smooth').checked, confidence: look.confidence });

for (const [kind, [title, text]] of Object.entries(TEXTS)) {
  $(`copy-${kind}`).addEventListener('click', async () => {
    if (await copyText(title, text())) $('taken').textContent = `${title} is copied.`;
  });
}

// ---- controls

$('use-camera').addEventListener('click', useCamera);
for (const kind of ['video', 'image']) {
  const input = $(`${kind}-file`);
  $(`use-${kind}`).addEventListener('click', () => input.click());
  input.addEventListener('change', () => {
    const [file] = input.files;
    input.value = ''; // so that the same file can be chosen again
    if (file) useFile(file);
  });
}

async function hintAboutCamera() {
  const obstacle = await cameraObstacle();
  $('camera-hint').hidden = !obstacle;
  $('camera-hint').textContent = obstacle ? `${obstacle[0]}. ${obstacle[1]}` : '';
}

function stopAndReturn() {
  stop();
  hintAboutCamera();
  $('use-camera').focus({ preventScroll: true });
}

$('stop').addEventListener('click', stopAndReturn);
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !$('frame').hidden && !document.fullscreenElement && !$('copy').open) stopAndReturn();
});
$('pause').addEventListener('click', () => {
  if (video.paused) video.play();
  else video.pause();
});
for (const event of ['play', 'pause']) {
  video.addEventListener(event, () => {
    $('pause-label').textContent = video.paused ? 'Play' : 'Pause';
    $('pause-icon').setAttribute('href', video.paused ? '#i-play' : '#i-pause');
    redraw();
  });
}
$('flip').addEventListener('click', () => {
  facing = facing === 'user' ? 'environment' : 'user';
  useCamera();
});
$('full').hidden = !document.fullscreenEnabled;
$('full').addEventListener('click', () => (document.fullscreenElement ? document.exitFullscreen() : $('stage').requestFullscreen()));
$('smooth').addEventListener('change', () => stream && startStream());
$('mirror').addEventListener('change', () => mirror($('mirror').checked));
$('labels').addEventListener('change', () => {
  look.labels = $('labels').checked;
  redraw();
});
$('confidence').addEventListener('input', () => {
  look.confidence = Number($('confidence').value);
  $('confidence-value').textContent = `${Math.round(look.confidence * 100)} %`;
  redraw();
});
for (const radio of document.querySelectorAll('[name="timing"]')) {
  radio.checked = radio.value === timing;
  radio.addEventListener('change', () => {
    timing = radio.value;
    remember('timing', timing === 'auto' ? null : timing);
    redraw();
  });
}
$('settings').addEventListener('submit', (event) => event.preventDefault());
new ResizeObserver(() => last && redraw()).observe(overlay);
video.addEventListener('resize', () => video.videoWidth && !$('frame').hidden && show(video, video.videoWidth, video.videoHeight));
addEventListener('online', () => stream?.retry());
navigator.mediaDevices?.addEventListener('devicechange', hintAboutCamera);
hintAboutCamera();
handleDrops($('drop'), useFile);
handleTheme();
