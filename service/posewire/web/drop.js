// Files dropped onto the page.

/**
 * Call a function with each file that is dropped onto the page.
 *
 * @param {HTMLElement} sign shown while a file is held over the page.
 * @param {(file: File) => void} onFile
 */
export function handleDrops(sign, onFile) {
  let drags = 0; // entered elements: leaving a child element is not leaving the page
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
    if (file) onFile(file);
  });
}
