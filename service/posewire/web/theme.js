// The theme: that of the system, until the button chooses the other one.

import { recall, remember } from './choices.js';

const light = matchMedia('(prefers-color-scheme: light)');
const root = document.documentElement;

const ofSystem = () => (light.matches ? 'light' : 'dark');
const current = () => root.dataset.theme ?? ofSystem();
const other = () => (current() === 'light' ? 'dark' : 'light');

function label() {
  const button = document.getElementById('theme');
  button.setAttribute('aria-label', `Use the ${other()} theme`);
  button.title = button.getAttribute('aria-label');
}

const stored = recall('theme');
if (stored) root.dataset.theme = stored;

/** Connect the button. */
export function handleTheme() {
  label();
  light.addEventListener('change', label);
  document.getElementById('theme').addEventListener('click', () => {
    const chosen = other();
    if (chosen === ofSystem()) delete root.dataset.theme;
    else root.dataset.theme = chosen;
    remember('theme', root.dataset.theme ?? null);
    label();
  });
}
