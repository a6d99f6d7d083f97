// The page: controls, sources, streams and messages.

import { handleDrops } from './drop.js';
import { Meter } from './meter.js';
import { askForKey, complain, hush, say } from './notices.js';
import { holdKey, KeyNeeded, poseModel, poseOfPicture } from './service.js';
import { clear, draw } from './skeleton.js';
import { eachFrame, Grabber, openCamera, openVideo, release, SourceError } from './sources.js';
import { PoseStream } from './stream.js';

const $ = (id) => document.getElementById(id);
const video = $('video');
const picture = $('picture');
const overlay = $('overlay');
const meter = new Meter({ latency: $('latency'), rate: $('rate'), people: $('people'), drops: $('drops'), server: $('server') }, $('spark'));
const grabber = new Grabber();
const look = { names: [], skeleton: [], confidence: 0.2, labels: true, mirrored: false };

let source = 0; // number of the source: late answers for an earlier one are ignored
let again = null; // starts the same source again
let stream = null;
let stopFrames = () => {};
let facing = 'user';
let last = null; // the result that is on the screen

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

// ---- from source to screen

function stop() {
  source += 1;
  stopFrames();
  stopFrames = () => {};
  stream?.close();
  stream = null;
  release(video);
  if (picture.src) URL.revokeObjectURL(picture.src);
  picture.removeAttribute('src');
  last = null;
  clear(overlay);
  meter.clear();
  hush();
  for (const id of ['view', 'dock', 'pause', 'flip']) $(id).hidden = true;
  $('welcome').hidden = false;
  say('idle', 'Ready');
}

/** Show an element of the view, with its own aspect ratio. */
function show(element, width, height) {
  $('welcome').hidden = true;
  for (const id of ['view', 'dock']) $(id).hidden = false;
  video.hidden = element !== video;
  picture.hidden = element !== picture;
  $('view').style.setProperty('--ratio', width / height);
  $('view').style.aspectRatio = width / height;
}

function mirror(on) {
  look.mirrored = $('mirror').checked = on;
  $('view').classList.toggle('mirrored', on);
  redraw();
}

function redraw() {
  if (last) draw(overlay, last, look);
}

function startStream() {
  stream?.close();
  const mine = new PoseStream({ track: true, smooth: $('smooth').checked });
  stream = mine;
  say('waiting', 'Connecting …');
  mine.addEventListener('started', ({ detail }) => {
    Object.assign(look, { names: detail.keypoints, skeleton: detail.skeleton });
    hush();
    say('live', 'Live');
  });
  mine.addEventListener('result', ({ detail }) => {
    if (stream !== mine) return;
    last = detail;
    redraw();
    meter.result(detail);
    say('live', `Live: ${countText(detail.people.length)}`);
  });
  mine.addEventListener('waiting', ({ detail: { code, reason, seconds } }) => {
    const title = { 1013: 'The server is busy', 1012: 'The server is restarting' }[code] ?? 'The connection was lost';
    say('waiting', 'Reconnecting …');
    complain(title, `${reason ? `${reason}. ` : ''}Connecting again in ${Math.ceil(seconds)} s.`);
    // A browser does not report why a handshake failed; a request over HTTP shows the reason.
    poseModel().catch((error) => error instanceof KeyNeeded && stream === mine && fail(error));
  });
  mine.addEventListener('failed', ({ detail: { code, reason } }) => {
    fail(new SourceError('The server closed the stream', `${reason || 'No reason was given'} (code ${code}).`));
  });
}

/** Send frames of the video as fast as they are answered. */
function run() {
  startStream();
  meter.start();
  const mine = source;
  stopFrames = eachFrame(video, async () => {
    if (video.paused) return;
    const free = stream.ready && !grabber.busy;
    meter.frame(!free);
    if (!free) return;
    const captured = performance.now();
    const data = await grabber.grab(video);
    if (data && mine === source) stream.send(data, captured);
  });
}

async function useCamera() {
  stop();
  again = useCamera;
  const mine = source;
  say('waiting', 'Waiting for the camera …');
  try {
    await poseModel();
    const { front, several } = await openCamera(video, facing);
    if (mine !== source) return;
    show(video, video.videoWidth, video.videoHeight);
    mirror(front);
    $('flip').hidden = !several;
    run();
    $('stop').focus({ preventScroll: true });
  } catch (error) {
    if (mine === source) fail(error, useCamera);
  }
}

async function useVideo(file) {
  stop();
  again = () => useVideo(file);
  const mine = source;
  try {
    await poseModel();
    await openVideo(video, file);
    if (mine !== source) return;
    show(video, video.videoWidth, video.videoHeight);
    mirror(false);
    $('pause').hidden = false;
    run();
    $('stop').focus({ preventScroll: true });
  } catch (error) {
    if (mine === source) fail(error);
  }
}

async function usePicture(file) {
  stop();
  again = () => usePicture(file);
  const mine = source;
  say('waiting', 'Looking …');
  const started = performance.now();
  try {
    picture.src = URL.createObjectURL(file);
    const { keypoints, skeleton } = await poseModel();
    const [answer] = await Promise.all([poseOfPicture(file), picture.decode().catch(() => {})]);
    if (mine !== source) return;
    Object.assign(look, { names: keypoints, skeleton });
    show(picture, answer.width, answer.height);
    mirror(false);
    last = answer;
    redraw();
    meter.picture(answer, performance.now() - started);
    say('live', `Found ${countText(answer.people.length)}`);
    $('stop').focus({ preventScroll: true });
  } catch (error) {
    if (mine === source) fail(error);
  }
}

function useFile(file) {
  if (file.type.startsWith('video/')) useVideo(file);
  else if (file.type.startsWith('image/')) usePicture(file);
  else complain('Not a video or a picture', `${file.name} cannot be shown here.`);
}

// ---- controls

$('use-camera').addEventListener('click', useCamera);
for (const kind of ['video', 'picture']) {
  const input = $(`${kind}-file`);
  $(`use-${kind}`).addEventListener('click', () => input.click());
  input.addEventListener('change', () => {
    const [file] = input.files;
    input.value = ''; // so that the same file can be chosen again
    if (file) useFile(file);
  });
}

function stopAndReturn() {
  stop();
  $('use-camera').focus({ preventScroll: true });
}

$('stop').addEventListener('click', stopAndReturn);
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !$('view').hidden && !document.fullscreenElement) stopAndReturn();
});
$('pause').addEventListener('click', () => {
  if (video.paused) video.play();
  else video.pause();
});
for (const event of ['play', 'pause']) {
  video.addEventListener(event, () => {
    $('pause-label').textContent = video.paused ? 'Play' : 'Pause';
    $('pause-icon').setAttribute('href', video.paused ? '#i-play' : '#i-pause');
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
$('settings').addEventListener('submit', (event) => event.preventDefault());
new ResizeObserver(redraw).observe(overlay);
video.addEventListener('resize', () => video.videoWidth && !$('view').hidden && show(video, video.videoWidth, video.videoHeight));
handleDrops($('drop'), useFile);
