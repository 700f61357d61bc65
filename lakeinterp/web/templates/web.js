"use strict";
(() => {
  const lines = [...document.querySelectorAll(".rows > li > a")];
  const isWriting = (target) => target.closest("input, textarea, select, [contenteditable]");
  const follow = (rel) => {
    const link = document.querySelector(`a[rel=${rel}]`);
    if (link) link.click();
  };
  const move = (step) => {
    if (!lines.length) return;
    const at = lines.indexOf(document.activeElement);
    const next = at < 0 ? (step > 0 ? 0 : lines.length - 1) : at + step;
    if (lines[next]) lines[next].focus();
  };
  const search = () => {
    const field = document.querySelector("input[type=search], textarea, input[name=latent]");
    if (field) { field.focus(); field.select(); }
  };
  const actions = {
    "/": search, j: () => move(1), k: () => move(-1), n: () => follow("next"), p: () => follow("prev"),
  };
  addEventListener("keydown", (event) => {
    if (event.altKey || event.isComposing) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.form) {
      event.preventDefault();
      event.target.form.requestSubmit();
      return;
    }
    if (event.ctrlKey || event.metaKey || isWriting(event.target)) return;
    const action = actions[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  for (const note of document.querySelectorAll(".keys")) note.hidden = false;
  // Empty fields of a list's form would only make its address long.
  for (const form of document.querySelectorAll("form[method=get]")) {
    form.addEventListener("submit", () => {
      for (const field of form.elements) if (field.name && field.value === "") field.disabled = true;
    });
  }
})();
