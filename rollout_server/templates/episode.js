
"use strict";
const turns = [...document.querySelectorAll("section.turn")];
const view = document.getElementById("view");
function go(index) {
  const turn = turns[Math.max(0, Math.min(turns.length - 1, index))];
  if (turn) { turn.focus({preventScroll: true}); turn.scrollIntoView({block: "start"}); }
}
function toggle() {
  if (view) { view.setAttribute("aria-pressed", String(document.body.classList.toggle("tokens"))); }
}
if (view) { view.addEventListener("click", toggle); }
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) { return; }
  const here = turns.indexOf(document.activeElement);
  const keys = {j: () => go(here + 1), k: () => go(here - 1), g: () => go(0), G: () => go(turns.length - 1), t: toggle};
  if (Object.hasOwn(keys, event.key)) { keys[event.key](); event.preventDefault(); }
});
document.documentElement.dataset.ready = "yes";
