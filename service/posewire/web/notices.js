// Messages of the page, and the form for the API key.

const $ = (id) => document.getElementById(id);

/** Show the status in the bar. */
export function say(state, text) {
  $('status').dataset.state = state;
  if ($('status').textContent !== text) $('status').textContent = text;
}

/** Show a problem, and what to do about it. */
export function complain(title, text, action = null) {
  $('notice-title').textContent = title;
  $('notice-text').textContent = text;
  $('notice-action').hidden = !action;
  $('notice-action').textContent = action?.label ?? '';
  $('notice-action').onclick = action?.run ?? null;
  $('notice').hidden = false;
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
