// Files that are dropped onto the page.

/**
 * @param {HTMLElement} sign shown while something is held over the page.
 * @param {(file: File) => void} take
 */
export function takeDrops(sign, take) {
  let drags = 0; // elements under way: leaving a child is not leaving the page
  addEventListener('dragenter', (event) => {
    event.preventDefault();
    drags += 1;
    sign.hidden = false;
  });
  addEventListener('dragleave', () => {
    drags -= 1;
    if (!drags) sign.hidden = true;
  });
  addEventListener('dragover', (event) => event.preventDefault());
  addEventListener('drop', (event) => {
    event.preventDefault();
    drags = 0;
    sign.hidden = true;
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
}
