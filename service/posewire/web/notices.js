// What the page says, and the key that it asks for.

const $ = (id) => document.getElementById(id);

/** In the bar: how it goes. */
export function say(state, text) {
  $('status').dataset.state = state;
  if ($('status').textContent !== text) $('status').textContent = text;
}

/** What went wrong, and what to do. */
export function complain(title, text, action = null) {
  $('notice-title').textContent = title;
  $('notice-text').textContent = text;
  $('notice-action').hidden = !action;
  $('notice-action').textContent = action?.label ?? '';
  $('notice-action').onclick = action?.run ?? null;
  $('notice').hidden = false;
}

/** Ask for a key, and call `take` with it. */
export function askForKey(why, take) {
  say('waiting', 'Locked');
  $('key-text').textContent = `${why[0].toUpperCase()}${why.slice(1)}.`;
  $('key').hidden = false;
  $('key-value').focus();
  $('key').onsubmit = (event) => {
    event.preventDefault();
    const given = $('key-value').value.trim();
    $('key-value').value = '';
    take(given);
  };
}

/** Take back what was said and asked. */
export function hush() {
  $('notice').hidden = $('key').hidden = true;
}

for (const id of ['notice', 'key']) {
  $(`${id}-close`).addEventListener('click', () => {
    $(id).hidden = true;
  });
}
