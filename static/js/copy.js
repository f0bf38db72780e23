// Copy buttons: <button data-copy="id of the element">.
async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const text = source.innerText.trim();
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http has no clipboard: mark the text, so that Ctrl-C is enough.
    getSelection().selectAllChildren(source);
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Press Ctrl-C";
  setTimeout(() => (button.textContent = "Copy"), 2500);
}

export function startCopy() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
}
