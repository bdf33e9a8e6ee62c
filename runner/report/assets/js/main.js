// Starts the page and follows the window, the address and the printer.

let frame = 0;

function soon() {
  if (frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    paint();
  });
}

/** Show what the address says. */
function follow() {
  readHash();
  buildToolbar();
  buildTray();
  render();
  const entry = entryOf(state.cell);
  if (entry >= 0) openDetail(entry);
  else closeDetail();
}

addEventListener("scroll", soon, { passive: true });
addEventListener("popstate", follow);
addEventListener("hashchange", follow);

let lastWidth = 0;
new ResizeObserver(() => {
  const { clientWidth } = document.documentElement;
  const bar = find("#toolbar");
  document.documentElement.style.setProperty("--bar", getComputedStyle(bar).position === "sticky" ? `${bar.offsetHeight}px` : "0px");
  if (clientWidth !== lastWidth) {
    lastWidth = clientWidth;
    render();
  } else soon();
  if (detail.open) fitStage();
  if (comparison.open) show();
}).observe(document.documentElement);

addEventListener("resize", () => {
  soon();
  if (detail.open) fitStage();
  if (comparison.open) show();
});

for (const [kind, printing] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(kind, () => {
    grid.printing = printing;
    render();
  });
}

for (const element of document.querySelectorAll("[data-script]")) element.hidden = false;
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(find(button.dataset.copy).textContent, button));
}
find(".skip").addEventListener("click", (event) => {
  // The address holds the state, so the link must not change it.
  event.preventDefault();
  if (grid.model.sequence.length) focusEntry(grid.current >= 0 ? grid.current : grid.model.sequence[0]);
});
find("#reload")?.addEventListener("click", () => location.reload());

follow();
