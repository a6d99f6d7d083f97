// Messages of the page, and the form for the API key.

const $ = (id) => document.getElementById(id);

/** Show the state in the bar. A screen reader speaks it when it changes, so it has no figures that tick. */
export function say(state, text) {
  $('status').dataset.state = state;
  if ($('status').textContent !== text) $('status').textContent = text;
}

/**
 * Show a problem, and what to do about it.
 *
 * @param {string} title
 * @param {string} text
 * @param {{label: string, run: () => void} | null} action
 */
export function complain(title, text, action = null) {
  show('problem', title, text, action);
}

/** Show what was done, with a way to undo it, as `complain` shows a problem. */
export function inform(title, text, action = null) {
  show('done', title, text, action);
}

function show(kind, title, text, action) {
  $('notice').dataset.kind = kind;
  $('notice-title').textContent = title;
  $('notice-text').textContent = text;
  $('notice-count').textContent = '';
  $('notice-action').hidden = !action;
  $('notice-action').textContent = action?.label ?? '';
  $('notice-action').onclick = action?.run ?? null;
  $('notice').hidden = false;
}

/** Show a text that ticks below the problem; a screen reader does not speak it. */
export function tickNotice(text) {
  if ($('notice-count').textContent !== text) $('notice-count').textContent = text;
}

/** Ask for a key, and call `onKey` with it. */
export function askForKey(why, onKey) {
  say('waiting', 'Locked');
  $('key-text').textContent = `${why[0].toUpperCase()}${why.slice(1)}.`;
  $('key').hidden = false;
  $('key-value').focus();
  $('key').onsubmit = (event) => {
    event.preventDefault();
    const given = $('key-value').value.trim();
    $('key-value').value = '';
    onKey(given);
  };
}

/** Hide the problem and the form. */
export function hush() {
  $('notice').hidden = $('key').hidden = true;
}

for (const id of ['notice', 'key']) {
  $(`${id}-close`).addEventListener('click', () => {
    $(id).hidden = true;
  });
}
