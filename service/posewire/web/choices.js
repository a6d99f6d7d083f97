// Choices that this browser remembers. A browser may forbid the storage; then a choice holds until the page is closed.

const name = (choice) => `posewire.${choice}`;

/** Return a remembered choice; null: there is none. */
export function recall(choice) {
  try {
    return localStorage.getItem(name(choice));
  } catch {
    return null;
  }
}

/** Remember a choice; null forgets it. */
export function remember(choice, value) {
  try {
    if (value === null) localStorage.removeItem(name(choice));
    else localStorage.setItem(name(choice), value);
  } catch {
    // Without storage there is nothing to do: the page works the same.
  }
}
