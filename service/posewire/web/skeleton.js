// Draws skeletons on a canvas over the image.

const GOLDEN_ANGLE = 137.508;
// Sets with hands or faces have more keypoints than this. Those of hands and faces lie close together, and are drawn smaller.
const MANY = 40;
const SMALL = 0.35; // as the service draws them
const OUTLINE = 'rgb(5 8 14 / .65)';

/** Return the colour of a track; consecutive ids have very different hues. */
export function trackColor(id) {
  return `hsl(${(168 + id * GOLDEN_ANGLE) % 360} 85% 66%)`;
}

/**
 * @typedef {{names: string[], skeleton: number[][], confidence: number, labels: boolean, mirrored: boolean}} Look
 */

/**
 * Draw everyone on a canvas over the image.
 *
 * @param {HTMLCanvasElement} canvas of any size in CSS pixels.
 * @param {{width: number, height: number, people: object[]}} result as the server sent it, in pixels of the image.
 * @param {Look} look
 */
export function draw(canvas, result, look) {
  drawPeople(fit(canvas), result, look, devicePixelRatio);
}

/**
 * Draw everyone over what a canvas shows.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {{width: number, height: number, people: object[]}} result it fills the canvas.
 * @param {Look} look
 * @param {number} unit pixels of the canvas for one pixel of lines and texts.
 */
export function drawPeople(context, result, look, unit) {
  const { canvas } = context;
  context.lineCap = context.lineJoin = 'round';
  const scale = canvas.width / result.width;
  const place = (x, y) => [look.mirrored ? canvas.width - x * scale : x * scale, y * scale];
  const small = smallKeypoints(look);
  [...result.people].reverse().forEach((person, fromLast) => {
    const color = trackColor(person.track_id ?? result.people.length - 1 - fromLast);
    const [, , width, height] = person.box;
    const line = unit * Math.max(2, Math.min(6, (Math.hypot(width, height) * scale * 0.009) / unit));
    const large = new Map();
    const fine = new Map();
    for (const { name, x, y, score } of person.keypoints) {
      if (score >= look.confidence) (small.has(name) ? fine : large).set(name, place(x, y));
    }
    drawBones(context, large, look, line, color);
    drawJoints(context, large, line, '#fff', color);
    drawBones(context, fine, look, line * SMALL, color);
    drawJoints(context, fine, line * SMALL, color, color); // a white core would hide the colour
    if (look.labels && person.track_id != null) drawLabel(context, person, place, unit, color);
  });
}

/** Return the names of keypoints outside of the body, which is the largest part of the skeleton that hangs together. */
function smallKeypoints({ names, skeleton }) {
  if (names.length <= MANY) return new Set();
  const part = names.map((_, index) => new Set([index]));
  for (const [a, b] of skeleton) {
    if (part[a] === part[b]) continue;
    const joined = new Set([...part[a], ...part[b]]);
    for (const index of joined) part[index] = joined;
  }
  const body = part.reduce((largest, one) => (one.size > largest.size ? one : largest));
  return new Set(names.filter((_, index) => !body.has(index)));
}

/** Empty the canvas. */
export function clear(canvas) {
  fit(canvas);
}

function fit(canvas) {
  const { clientWidth, clientHeight } = canvas;
  const width = Math.round(clientWidth * devicePixelRatio);
  const height = Math.round(clientHeight * devicePixelRatio);
  const context = canvas.getContext('2d');
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  else context.clearRect(0, 0, width, height);
  return context;
}

function drawBones(context, points, look, line, color) {
  const bones = new Path2D();
  for (const [a, b] of look.skeleton) {
    const from = points.get(look.names[a]);
    const to = points.get(look.names[b]);
    if (!from || !to) continue;
    bones.moveTo(...from);
    bones.lineTo(...to);
  }
  for (const [style, width] of [[OUTLINE, line * 1.9], [color, line]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke(bones);
  }
}

function drawJoints(context, points, line, core, color) {
  const joints = new Path2D();
  for (const [x, y] of points.values()) {
    joints.moveTo(x + line, y);
    joints.arc(x, y, line, 0, 2 * Math.PI);
  }
  context.fillStyle = core;
  context.strokeStyle = color;
  context.lineWidth = line * 0.7;
  context.fill(joints);
  context.stroke(joints);
}

function drawLabel(context, person, place, unit, color) {
  const [left, top, width] = person.box;
  const text = `${person.track_id}`;
  const size = 13 * unit;
  context.font = `650 ${size}px system-ui, sans-serif`;
  const half = context.measureText(text).width / 2 + size * 0.6;
  const [x, y] = place(left + width / 2, top);
  const middle = Math.min(Math.max(x, half), context.canvas.width - half);
  const above = Math.max(y - size * 1.2, size);
  context.fillStyle = color;
  context.beginPath();
  context.roundRect(middle - half, above - size * 0.8, half * 2, size * 1.6, size * 0.8);
  context.fill();
  context.fillStyle = '#05080e';
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  context.fillText(text, middle, above + size * 0.06);
}
