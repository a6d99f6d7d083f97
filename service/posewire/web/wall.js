// The wall of cameras: states, images and events of all of them, and one of them enlarged.

import { addCamera, cameraEvents, changeCamera, getCamera, liveImages, listCameras, removeCamera, snapshotOf } from './cameras.js';
import { EventList, LONGEST } from './events.js';
import { askForKey, complain, hush, inform, say, tickNotice } from './notices.js';
import { holdKey, KeyNeeded } from './service.js';
import { SourceError } from './sources.js';
import { Snapshots } from './snapshots.js';
import { ageText, explain, paint, setText, showState, STATES, Tile } from './tiles.js';
import { handleTheme } from './theme.js';
import { cornersOf, hasPlace, ShapeEditor, withCorners } from './zones.js';

const POLL_MS = 1000;
const SILENT_MS = 2000; // a request without an answer for so long is reported
const LEAVE_MS = 6000; // and is given up after so long
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const AGAIN_MS = 1500; // before events or live images that ended are asked for again
const TICK_MS = 250;
const WATCHED = new Set(['connecting', 'live', 'waiting']); // states in which frames may come
const SUMMARY = ['live', 'connecting', 'waiting', 'failed', 'ended', 'off'];
const RULE_KINDS = { zone: 'zone', line: 'line', raised_hand: 'raised hands', fall: 'suspected falls', repetition: 'repetitions' };
const HELP = {
  zone: 'Click the corners on the image one after the other, three at least. Drag a corner to move it.',
  line: 'Drag from one end to the other, or click both ends. Left and right are those of someone who looks along the line.',
};
const SOURCE_HELP = 'An rtsp://, rtsps://, http:// or https:// address (Motion JPEG, HLS), or the absolute path of a video file on the server.';
const KEEPS_PASSWORD = 'Without a user and a password it keeps those that it has, if the address stays the same.';

const $ = (id) => document.getElementById(id);
const tiles = new Map(); // name -> Tile, by name
const snapshots = new Snapshots(() => tiles.values());
const events = new EventList($('events'), $('no-events'));
const shapes = new ShapeEditor($('shapes'), (text) => setText($('editor-said'), text));
const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const tile = tiles.get(target.dataset.camera);
    if (tile?.element === target) tile.inView = isIntersecting;
  }
});

let connected = false; // the cameras are known
let opened = null; // the name of the enlarged camera
let trouble = null; // what a notice about the connection ticks: a function that returns its text
let wake = () => {}; // ends the present pause
let following = null; // of the events: an AbortController
let followFrom = 0; // not before this time, performance.now()
let lastEvent = null; // the id of the last event
let playing = null; // of the live images: an AbortController
let playFrom = 0;
let shownRules = ''; // JSON of the rules in the list
let edited = null; // the rule that is drawn: {kind} of a new one, or the rule as it was

const errorText = ({ title, message }) => (title ? `${title}: ${message}` : message);
const cameraText = (count) => (count === 1 ? '1 camera' : `${count} cameras`);

// ---- the service: states are asked for each second; the two streams, of events and of live images, follow

/** Wait; `wake` ends it. */
function pauseFor(ms) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    wake = () => {
      clearTimeout(timer);
      done();
    };
  });
}

/** Wait until the page can be seen: a hidden tab takes no connection from the others. */
function visible() {
  if (!document.hidden) return null;
  leave();
  return new Promise((done) => {
    document.addEventListener('visibilitychange', done, { once: true });
  });
}

/** End the streams. */
function leave() {
  following?.abort();
  playing?.abort();
  snapshots.stop();
}

function report(state, title, text, ticking) {
  say('waiting', state);
  complain(title, text, { label: 'Try now', run: () => wake() });
  trouble = ticking;
  tickNotice(trouble());
  $('main').classList.add('stale');
  setText($('summary'), '');
  showState($('one-state'), { state: 'unknown' });
  for (const tile of tiles.values()) tile.forget();
}

function recovered() {
  $('main').classList.remove('stale');
  $('add').disabled = false;
  if (!trouble) return;
  trouble = null;
  hush();
}

/** Ask for all cameras; report it if the server is silent meanwhile. */
async function ask() {
  const started = performance.now();
  const timer = setTimeout(() => {
    report('Server does not answer', 'The server does not answer', 'The page keeps waiting.', () => {
      return `No answer for ${Math.round((performance.now() - started) / 1000)} s.`;
    });
  }, SILENT_MS);
  try {
    return await listCameras(AbortSignal.timeout(LEAVE_MS));
  } finally {
    clearTimeout(timer);
  }
}

async function watch() {
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    await visible();
    try {
      const cameras = await ask();
      pause = FIRST_PAUSE_MS;
      recovered();
      show(cameras);
      await pauseFor(POLL_MS);
    } catch (error) {
      leave();
      if (error instanceof KeyNeeded) await newKey(error.message);
      else {
        const until = performance.now() + pause;
        report('Reconnecting …', error.title ?? 'The connection was lost', error.title ? error.message : '', () => {
          return `Next try in ${Math.max(0, Math.round((until - performance.now()) / 1000))} s.`;
        });
        await pauseFor(pause);
        pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
      }
    }
  }
}

function newKey(why) {
  return new Promise((done) => {
    askForKey(why, (key) => {
      holdKey(key);
      hush();
      say('waiting', 'Connecting …');
      done();
    });
  });
}

/** Follow the events of all cameras until the connection ends. */
async function follow() {
  const mine = new AbortController();
  following = mine;
  try {
    const found = await cameraEvents({ recent: LONGEST, after: lastEvent }, mine.signal);
    setText($('events-problem'), '');
    for await (const event of found) {
      lastEvent = event.id;
      events.add(event);
    }
  } catch (error) {
    if (error instanceof SourceError && !mine.signal.aborted) setText($('events-problem'), errorText(error)); // a lost connection is reported already
  } finally {
    if (following === mine) following = null;
    followFrom = performance.now() + AGAIN_MS;
  }
}

/** Show the live images of the enlarged camera until the connection ends. */
async function play(name) {
  const mine = new AbortController();
  playing = mine;
  try {
    const images = await liveImages(name, mine.signal);
    setText($('live-problem'), '');
    for await (const image of images) {
      if (mine.signal.aborted) image.close();
      else enlarge(image);
    }
  } catch (error) {
    if (error instanceof SourceError && !mine.signal.aborted) setText($('live-problem'), `No live images. ${errorText(error)}`);
  } finally {
    if (playing === mine) playing = null;
    playFrom = performance.now() + AGAIN_MS;
  }
}

// ---- the wall

function show(cameras) {
  connected = true;
  for (const name of [...tiles.keys()]) if (!cameras.some((camera) => camera.name === name)) drop(name);
  for (const [i, camera] of cameras.entries()) {
    const tile = tiles.get(camera.name) ?? make(camera.name);
    if ($('grid').children[i] !== tile.element) $('grid').insertBefore(tile.element, $('grid').children[i]);
    tile.update(camera);
  }
  $('none').hidden = cameras.length > 0;
  const states = cameras.map(({ status }) => status.state);
  const count = (state) => states.filter((each) => each === state).length;
  const counts = SUMMARY.filter(count).map((state) => `${count(state)} ${STATES[state].toLowerCase()}`);
  setText($('summary'), cameras.length ? counts.join(', ') : '');
  const bad = states.includes('failed') ? 'bad' : 'waiting';
  const well = states.every((state) => state === 'live' || state === 'off' || state === 'ended');
  say(cameras.length === 0 ? 'idle' : well ? 'live' : bad, cameras.length ? `${count('live')} of ${cameraText(cameras.length)} live` : 'No cameras');
  if (!following && performance.now() >= followFrom) follow();
  snapshots.start();
  openFromAddress();
  if (opened) showOpened();
}

function make(name) {
  const tile = new Tile($('tile'), name);
  tiles.set(name, tile);
  inView.observe(tile.element);
  return tile;
}

function drop(name) {
  const { element } = tiles.get(name);
  inView.unobserve(element);
  element.remove();
  tiles.delete(name);
}

// ---- one camera

/** Enlarge the camera of the address, or show the wall. */
function openFromAddress() {
  const name = location.hash.slice(1) || null;
  if (name !== null && !tiles.has(name)) {
    history.replaceState(null, '', location.pathname);
    complain(`No camera is called ${name}`, 'It may have been removed.');
    openFromAddress();
    return;
  }
  if (name === opened) return;
  const before = opened;
  opened = name;
  playing?.abort();
  playing = null;
  playFrom = 0;
  shownRules = '';
  stopEditing();
  setText($('live-problem'), '');
  $('live').hidden = true;
  $('all').hidden = opened !== null;
  $('one').hidden = opened === null;
  events.showOnly(opened);
  document.title = `${opened ? `${opened} – ` : ''}Cameras – Posewire`;
  scrollTo(0, 0);
  if (opened) {
    setText($('one-name'), opened);
    $('one-name').focus({ preventScroll: true });
    showNewest(tiles.get(opened));
    showOpened();
  } else tiles.get(before)?.element.querySelector('a').focus();
}

/** Show the newest image that there is, before the first live one comes. */
async function showNewest(tile) {
  try {
    const image = tile.image.hidden ? tile.camera.status.age_s !== null && (await snapshotOf(tile.name, AbortSignal.timeout(LEAVE_MS))) : await createImageBitmap(tile.image);
    if (image && opened === tile.name && $('live').hidden) enlarge(image);
  } catch {
    // The state says what is wrong with the camera.
  }
}

function enlarge(image) {
  $('view').style.setProperty('--ratio', image.width / image.height);
  paint($('live'), image);
}

function showOpened() {
  const { camera, rate } = tiles.get(opened);
  const { status } = camera;
  showState($('one-state'), status);
  $('one').dataset.state = status.state;
  setText($('one-detail'), explain(camera));
  setText($('one-cover'), status.state === 'connecting' || status.state === 'live' ? 'The first image is on its way' : 'No image');
  $('live').setAttribute('aria-label', `${opened}: the image with skeletons, ${status.people ?? 0} people`);
  const figures = {
    people: status.people ?? '–',
    rate,
    age: ageText(status.age_s),
    reconnects: status.reconnects,
    source: `${camera.source}${camera.credentials ? ' (with a password)' : ''}`,
    fps: camera.fps ?? 'none',
    sinks: camera.sinks.map(({ kind, url, path }) => `${kind} ${url ?? path}`).join(', ') || 'none',
    frames: status.frames,
    dropped: status.dropped,
    failed: status.failed,
  };
  for (const [name, value] of Object.entries(figures)) setText($(`one-${name}`), value);
  setText($('toggle-label'), camera.enabled ? 'Pause' : 'Resume');
  $('toggle-icon').setAttribute('href', camera.enabled ? '#i-pause' : '#i-play');
  showRules(camera.rules);
  if (WATCHED.has(status.state) && !playing && performance.now() >= playFrom) play(opened);
}

function showRules(rules) {
  const text = JSON.stringify([opened, rules, edited?.name ?? null]);
  if (text === shownRules) return; // a button of the list may have the focus
  shownRules = text;
  shapes.show(rules.filter(({ name }) => name !== edited?.name));
  $('no-rules').hidden = rules.length > 0;
  $('rules').replaceChildren(
    ...rules.map((rule) => {
      const item = $('rule').content.firstElementChild.cloneNode(true);
      const part = (name) => item.querySelector(`[data-part="${name}"]`);
      part('name').textContent = rule.name;
      part('kind').textContent = RULE_KINDS[rule.kind] ?? rule.kind;
      part('edit').hidden = !hasPlace(rule);
      part('edit').setAttribute('aria-label', `Change ${rule.name}`);
      part('edit').addEventListener('click', () => edit(rule));
      part('remove').setAttribute('aria-label', `Remove ${rule.name}`);
      part('remove').addEventListener('click', () => removeRule(rule));
      return item;
    }),
  );
}

/** Do something about the enlarged camera, and show what came of it. `problem` shows an error; without it, the notice. */
async function act(button, change, problem = null) {
  if (problem) setText(problem, '');
  button.disabled = true;
  try {
    await change();
    wake();
    return true;
  } catch (error) {
    if (problem) setText(problem, errorText(error));
    else complain(error.title ?? 'That did not work', error.message);
    if (error instanceof KeyNeeded) wake();
    return false;
  } finally {
    button.disabled = false;
  }
}

// ---- rules

/** Change the rules of a camera, as they are now: others may have changed them. */
async function changeRules(name, change) {
  await changeCamera(name, { rules: change((await getCamera(name)).rules) });
}

function freeName(stem) {
  const taken = new Set(tiles.get(opened).camera.rules.map(({ name }) => name));
  let number = 1;
  while (taken.has(`${stem} ${number}`)) number += 1;
  return `${stem} ${number}`;
}

function edit(rule) {
  edited = rule;
  const isNew = rule.name === undefined;
  const zone = rule.kind === 'zone';
  $('editor').hidden = false;
  $('editor').dataset.kind = rule.kind;
  setText($('editor-title'), isNew ? `A new ${rule.kind}` : `Change ${rule.name}`);
  setText($('editor-help'), HELP[rule.kind]);
  setText($('editor-problem'), '');
  $('rule-name').value = rule.name ?? freeName(rule.kind);
  $('rule-point').value = rule.point ?? 'feet';
  $('rule-dwell').value = rule.dwell_s ?? '';
  $('rule-reverse').hidden = zone;
  for (const field of document.querySelectorAll('.of-zone')) field.hidden = !zone;
  showRules(tiles.get(opened).camera.rules);
  shapes.begin(rule.kind, isNew ? [] : cornersOf(rule));
  $('editor').parentElement.scrollIntoView({ block: 'nearest' });
}

function stopEditing() {
  if (!edited) return;
  edited = null;
  $('editor').hidden = true;
  shapes.end();
  if (opened) showRules(tiles.get(opened).camera.rules);
}

async function saveRule() {
  if (!shapes.complete) {
    setText($('editor-problem'), edited.kind === 'zone' ? 'A zone needs three corners.' : 'A line needs two ends.');
    return;
  }
  const { kind, name: before } = edited;
  const dwell = $('rule-dwell').value;
  const fields = { ...edited, name: $('rule-name').value.trim(), point: $('rule-point').value };
  if (kind === 'zone') fields.dwell_s = dwell === '' ? null : Number(dwell);
  const rule = withCorners(fields, shapes.corners);
  const name = opened;
  const put = (rules) => (rules.some((each) => each.name === before) ? rules.map((each) => (each.name === before ? rule : each)) : [...rules, rule]);
  if (!(await act($('rule-save'), () => changeRules(name, put), $('editor-problem')))) return;
  if (opened === name) stopEditing();
  inform(`${rule.name} is saved`, 'The camera is connected anew.');
  $(`draw-${kind}`).focus({ preventScroll: true });
}

async function removeRule(rule) {
  const name = opened;
  const { kind } = rule;
  stopEditing();
  if (!(await act($('draw-zone'), () => changeRules(name, (rules) => rules.filter((each) => each.name !== rule.name))))) return;
  inform(`${rule.name} is removed`, `It was a rule of ${name}: ${RULE_KINDS[kind] ?? kind}.`, {
    label: 'Undo',
    run: () => act($('notice-action'), () => changeRules(name, (rules) => [...rules, rule])).then((done) => done && hush()),
  });
  $('notice-action').focus({ preventScroll: true });
}

for (const kind of ['zone', 'line']) $(`draw-${kind}`).addEventListener('click', () => edit({ kind }));
for (const [id, kind, stem] of [['hand', 'raised_hand', 'hand'], ['fall', 'fall', 'fall']]) {
  $(`add-${id}`).addEventListener('click', () => {
    const [name, rule] = [opened, { kind, name: freeName(stem) }];
    act($(`add-${id}`), () => changeRules(name, (rules) => [...rules, rule]));
  });
}
$('editor').addEventListener('submit', (event) => {
  event.preventDefault();
  saveRule();
});
$('rule-undo').addEventListener('click', () => shapes.undo());
$('rule-reverse').addEventListener('click', () => shapes.reverse());
shapes.addEventListener('change', () => {
  $('rule-undo').disabled = shapes.corners.length === 0;
  if (shapes.complete) setText($('editor-problem'), '');
});
for (const [target, type] of [[$('rule-cancel'), 'click'], [shapes, 'cancel']]) {
  target.addEventListener(type, () => {
    const { kind } = edited;
    stopEditing();
    $(`draw-${kind}`).focus({ preventScroll: true });
  });
}

// ---- adding, changing, pausing and removing a camera

/** Open the form for a new camera, or for one that is there. */
function openForm(camera) {
  $('camera-form').reset();
  setText($('camera-title'), camera ? `Change ${camera.name}` : 'Add a camera');
  setText($('camera-save'), camera ? 'Save' : 'Add');
  setText($('camera-problem'), '');
  setText($('camera-source-help'), camera?.credentials ? `${SOURCE_HELP} ${KEEPS_PASSWORD}` : SOURCE_HELP);
  for (const id of ['camera-name-row', 'camera-name-help']) $(id).hidden = Boolean(camera);
  $('camera-name').value = camera?.name ?? '';
  $('camera-source').value = camera?.source ?? '';
  $('camera-fps').value = camera?.fps ?? '';
  $('camera').showModal();
  (camera ? $('camera-source') : $('camera-name')).focus();
  $('camera-form').onsubmit = async (event) => {
    event.preventDefault();
    const fps = $('camera-fps').value;
    const options = { source: $('camera-source').value.trim(), fps: fps === '' ? null : Number(fps) };
    const change = camera ? () => changeCamera(camera.name, options) : () => addCamera({ name: $('camera-name').value, ...options });
    if (await act($('camera-save'), change, $('camera-problem'))) $('camera').close();
  };
}

$('add').addEventListener('click', () => openForm(null));
$('change').addEventListener('click', () => openForm(tiles.get(opened).camera));
$('camera-cancel').addEventListener('click', () => $('camera').close());
$('toggle').addEventListener('click', () => {
  const { name, enabled } = tiles.get(opened).camera;
  act($('toggle'), () => changeCamera(name, { enabled: !enabled }));
});
$('remove').addEventListener('click', () => {
  setText($('removal-title'), `Remove ${opened}?`);
  setText($('removal-problem'), '');
  $('removal').showModal();
});
$('removal-no').addEventListener('click', () => $('removal').close());
$('removal-yes').addEventListener('click', async () => {
  const name = opened;
  if (!(await act($('removal-yes'), () => removeCamera(name), $('removal-problem')))) return;
  $('removal').close();
  drop(name);
  location.hash = '';
  inform(`${name} is removed`, 'The service does not watch it any more.');
});

// ---- the page

setInterval(() => trouble && tickNotice(trouble()), TICK_MS);
addEventListener('hashchange', () => {
  if (connected) openFromAddress();
});
addEventListener('online', () => wake());
document.addEventListener('visibilitychange', () => document.hidden && leave());
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && opened && !edited && !document.querySelector('dialog[open]')) location.hash = '';
});
handleTheme();
watch();
