// Moving among the pictures with the keyboard: one tab stop, arrow keys for the rest.

const tileOf = (entry) => find(`[data-entry="${entry}"]`, host);

/** Exactly one picture can be reached with Tab: the current one, or the first in view. */
function markCurrent() {
  for (const button of host.querySelectorAll('[tabindex="0"].picture, [tabindex="0"].pin')) button.tabIndex = -1;
  const box = tileOf(grid.current) ?? find(".tile", host);
  for (const button of box?.querySelectorAll(".picture, .pin") ?? []) button.tabIndex = 0;
}

function focusEntry(entry) {
  grid.current = entry;
  bringIntoView(entry);
  paint();
  find(".picture", tileOf(entry))?.focus({ preventScroll: true });
}

function bringIntoView(entry) {
  const { model, m } = grid;
  const place = model.places.get(entry);
  if (!place) return;
  const frame = host.firstElementChild.getBoundingClientRect();
  const bar = find("#toolbar").getBoundingClientRect();
  const under = getComputedStyle(find("#toolbar")).position === "sticky" ? bar.height : 0;
  let [top, bottom, left, right] = [0, 0, 0, 0];
  let [coverTop, coverLeft] = [under + 8, 0];
  if (model.kind === "matrix") {
    const headHeight = find("thead", host).offsetHeight;
    top = frame.top + headHeight + m.offsets[place.row] + Math.floor(Math.min(place.nth, MOST_IN_CELL) / m.abreast) * (m.tall + GAP);
    bottom = top + m.tall + 2 * PAD;
    left = frame.left + m.head + place.column * m.column;
    right = left + m.column;
    coverTop += headHeight;
    coverLeft = m.head;
  } else {
    top = frame.top + Math.floor(place.nth / m.abreast) * m.step;
    bottom = top + m.step;
  }
  const { clientWidth, clientHeight } = document.documentElement;
  let [x, y] = [0, 0];
  if (top < coverTop) y = top - coverTop;
  else if (bottom > clientHeight) y = Math.min(bottom - clientHeight, top - coverTop);
  if (left < coverLeft) x = left - coverLeft;
  else if (right > clientWidth) x = Math.min(right - clientWidth, left - coverLeft);
  if (x || y) window.scrollBy({ left: x, top: y, behavior: "instant" });
}

/** The entry one step away; the same one at an edge. */
function neighbour(entry, across, down) {
  const { model, m } = grid;
  const place = model.places.get(entry);
  const { sequence } = model;
  if (model.kind === "wall") {
    const nth = place.nth + across + down * m.abreast;
    return sequence[nth] ?? entry;
  }
  if (across) {
    const inCell = model.rows[place.row].cells.get(place.column)[place.nth + across];
    if (inCell !== undefined && (place.nth % m.abreast) + across >= 0 && (place.nth % m.abreast) + across < m.abreast) return inCell;
    const { cells } = model.rows[place.row];
    for (let column = place.column + across; column >= 0 && column < model.across.length; column += across) {
      const cell = cells.get(column);
      if (cell) return inLine(cell, Math.floor(place.nth / m.abreast), across);
    }
    return entry;
  }
  const inCell = model.rows[place.row].cells.get(place.column)[place.nth + down * m.abreast];
  if (inCell !== undefined && place.nth + down * m.abreast < MOST_IN_CELL) return inCell;
  for (let row = place.row + down; row >= 0 && row < model.rows.length; row += down) {
    const cell = model.rows[row].cells?.get(place.column);
    if (!cell) continue;
    const nth = place.nth % m.abreast;
    const lines = Math.ceil(Math.min(cell.length, MOST_IN_CELL) / m.abreast);
    return cell[Math.min(cell.length - 1, (down > 0 ? 0 : (lines - 1) * m.abreast) + nth)];
  }
  return entry;

  function inLine(cell, line, way) {
    const last = Math.min(cell.length, MOST_IN_CELL) - 1;
    const first = Math.min(line * m.abreast, last - (last % m.abreast));
    return cell[way > 0 ? first : Math.min(last, first + m.abreast - 1)];
  }
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

host.addEventListener("focusin", (event) => {
  const box = event.target.closest(".tile");
  if (!box) return;
  grid.current = Number(box.dataset.entry);
  markCurrent();
});

host.addEventListener("keydown", (event) => {
  if (!event.target.closest(".tile") || event.ctrlKey || event.altKey || event.metaKey) return;
  const { sequence } = grid.model;
  let entry = null;
  if (event.key in ARROWS) entry = neighbour(grid.current, ...ARROWS[event.key]);
  else if (event.key === "Home") entry = sequence[0];
  else if (event.key === "End") entry = sequence.at(-1);
  else if (event.key === "PageDown" || event.key === "PageUp") {
    const steps = Math.max(1, Math.floor((innerHeight * 0.7) / grid.m.tall));
    entry = grid.current;
    for (let step = 0; step < steps; step += 1) entry = neighbour(entry, 0, event.key === "PageDown" ? 1 : -1);
  } else if (event.key === "p" || event.key === "P") {
    if (isDone(grid.current)) togglePin(grid.current);
  } else return;
  event.preventDefault();
  if (entry !== null && entry !== undefined) focusEntry(entry);
});

// The whole text of a cut row or column header, on hover and on focus; Escape sends it away.

const tip = find("#tip");

function showTip(target) {
  const cut = target.scrollWidth > target.clientWidth + 1 || target.scrollHeight > target.clientHeight + 1;
  if (!cut) return;
  tip.textContent = target.textContent;
  tip.hidden = false;
  const box = target.getBoundingClientRect();
  const left = Math.max(8, Math.min(box.left - 13, document.documentElement.clientWidth - tip.offsetWidth - 8));
  const below = box.top + tip.offsetHeight < innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${Math.max(8, below ? box.top - 9 : innerHeight - tip.offsetHeight - 8)}px`;
}

const hideTip = () => { tip.hidden = true; };

for (const kind of ["mouseover", "focusin"]) {
  host.addEventListener(kind, (event) => (event.target.matches(".long") ? showTip(event.target) : kind === "focusin" && hideTip()));
}
host.addEventListener("focusout", hideTip);
host.addEventListener("mouseout", (event) => { if (event.target.matches(".long") && event.relatedTarget !== tip) hideTip(); });
tip.addEventListener("mouseleave", hideTip);
addEventListener("scroll", hideTip, { passive: true });
addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
