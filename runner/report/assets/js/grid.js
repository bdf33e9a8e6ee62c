// Draws the matrix or the wall: only what is in view, and a little more.

const OVER = 600;
const grid = { model: null, m: null, current: -1, from: -1, to: -1, left: -1, right: -1, printing: false };
const host = find("#grid");

/** Everything anew: after a change of axes, filters, size or window. */
function render() {
  const entries = chosenEntries();
  const width = document.documentElement.clientWidth;
  document.documentElement.style.setProperty("--page", `${width}px`);
  grid.model = state.view === "matrix" ? matrixModel(entries) : wallModel(entries);
  grid.m = measure(grid.model, grid.printing ? 1000 : width, grid.printing);
  if (!grid.model.places.has(grid.current)) grid.current = -1;
  for (const [name, value] of Object.entries({ tile: grid.m.tile, picture: grid.m.picture, tall: grid.m.tall, head: grid.m.head, column: grid.m.column ?? 0 })) {
    host.style.setProperty(`--${name}`, `${value}px`);
  }
  host.style.setProperty("--abreast", grid.m.abreast);
  host.style.setProperty("--reason", Math.max(1, Math.floor((grid.m.picture - 16) / LINE)));
  grid.from = -1;
  host.replaceChildren(entries.length === 0 ? nothing() : grid.model.kind === "matrix" ? matrixFrame() : wallFrame());
  if (entries.length) paint();
  const text = entries.length === data.count ? plural(data.count, "cell") : `${number(entries.length)} of ${plural(data.count, "cell")}`;
  if (find("#count").textContent !== text) {
    find("#count").textContent = text;
    announce(text);
  }
}

function nothing() {
  const box = h("div", { class: "nothing" });
  if (isFiltered()) box.append(h("p", {}, "No cell passes these filters."), h("button", { type: "button", onclick: clearFilters }, "Clear filters"));
  else box.append(h("p", {}, data.status === "running" ? "No image yet." : "This run has no images."));
  return box;
}

function matrixFrame() {
  const { model, m } = grid;
  const names = [model.groupAxis, model.rowAxis].filter(Boolean).map((axis) => axis.label).join(", ") || "all";
  const caption = `${names} by ${model.columnAxis?.label ?? "image"}`;
  const table = h("table", { class: "matrix", "aria-rowcount": model.rows.length + 1, "aria-colcount": model.across.length + 1 },
    h("caption", { class: "offscreen" }, caption), h("thead"), h("tbody"));
  table.style.width = `${m.head + model.across.length * m.column}px`;
  return table;
}

const wallFrame = () => h("ul", { class: "wall", "aria-label": "Images" });

/** Draw what the window shows now. */
function paint(force = false) {
  if (!grid.model?.sequence.length) return;
  if (grid.model.kind === "matrix") paintMatrix(force);
  else paintWall(force);
  markCurrent();
}

function paintMatrix(force) {
  const { model, m } = grid;
  const table = find("table", host);
  const body = find("tbody", table);
  const top = window.scrollY + table.getBoundingClientRect().top;
  const all = grid.printing;
  const from = all ? 0 : lastNotBeyond(m.offsets, window.scrollY - top - OVER);
  const to = all ? model.rows.length : Math.min(model.rows.length, lastNotBeyond(m.offsets, window.scrollY - top + innerHeight + OVER) + 1);
  const few = all || model.across.length <= 24;
  const left = few ? 0 : Math.max(0, Math.floor(window.scrollX / m.column) - 2);
  const right = few ? model.across.length : Math.min(model.across.length, Math.ceil((window.scrollX + innerWidth) / m.column) + 2);
  if (!force && from === grid.from && to === grid.to && left === grid.left && right === grid.right) return;
  if (force || grid.from < 0 || left !== grid.left || right !== grid.right) {
    body.replaceChildren();
    find("thead", table).replaceChildren(headRow(left, right));
  }
  Object.assign(grid, { from, to, left, right });
  const kept = new Map();
  for (const row of [...body.children]) {
    const index = Number(row.dataset.row);
    if (index >= from && index < to) kept.set(index, row);
    else row.remove();
  }
  let next = body.firstChild;
  for (let index = from; index < to; index += 1) {
    const row = kept.get(index);
    if (row) next = row.nextSibling;
    else body.insertBefore(matrixRow(index, left, right), next);
  }
  spacer(body, m.offsets[from], true);
  spacer(body, m.offsets[model.rows.length] - m.offsets[to], false);
}

function spacer(body, height, first) {
  if (height <= 0) return;
  const row = h("tr", { class: "spacer", "aria-hidden": "true", style: { height: `${height}px` } }, h("td"));
  if (first) body.prepend(row);
  else body.append(row);
}

function headRow(left, right) {
  const { model, m } = grid;
  const corner = h("th", { class: "corner", scope: "col" });
  if (model.rowAxis) corner.append(h("span", {}, `${model.rowAxis.label} ↓`));
  if (model.columnAxis) corner.append(h("span", {}, `${model.columnAxis.label} →`));
  const row = h("tr", { "aria-rowindex": 1 }, corner);
  if (left) row.append(h("td", { colspan: left, style: { width: `${left * m.column}px` } }));
  for (let column = left; column < right; column += 1) {
    const text = model.columnAxis ? headText(model.columnAxis, model.across[column]) : "images";
    row.append(h("th", { scope: "col", "aria-colindex": column + 2 }, longText(text, m.column / 7)));
  }
  if (right < model.across.length) row.append(h("td", { colspan: model.across.length - right, style: { width: `${(model.across.length - right) * m.column}px` } }));
  return row;
}

/** Text that may be cut by the style sheet; whole on hover and focus. */
function longText(text, room) {
  return h("span", { class: "long", dir: "auto", tabindex: text.length > room ? "0" : null }, text);
}

function matrixRow(index, left, right) {
  const { model, m } = grid;
  const line = model.rows[index];
  const row = h("tr", { "data-row": index, "aria-rowindex": index + 2, style: { height: `${m.offsets[index + 1] - m.offsets[index]}px` } });
  if (!line.cells) {
    row.className = "heading";
    row.append(h("th", { scope: "rowgroup", colspan: 1 + (left ? 1 : 0) + right - left + (right < model.across.length ? 1 : 0) },
      h("span", { dir: "auto" }, h("small", {}, model.groupAxis.label), placeText(model.groupAxis, line.heading))));
    return row;
  }
  const room = m.offsets[index + 1] - m.offsets[index] - 2 * PAD - 1;
  const lines = Math.max(1, Math.floor(room / 18) - (model.groupAxis ? 2 : 0));
  const box = h("div", { style: { "max-height": `${room}px`, "--lines": lines } });
  if (model.groupAxis) box.append(h("small", {}, placeText(model.groupAxis, line.group)));
  const text = model.rowAxis ? headText(model.rowAxis, line.row) : "all";
  box.append(longText(text, m.head / 3));
  row.append(h("th", { scope: "row" }, box));
  if (left) row.append(h("td", { colspan: left }));
  for (let column = left; column < right; column += 1) row.append(matrixCell(line, column));
  if (right < model.across.length) row.append(h("td", { colspan: model.across.length - right }));
  return row;
}

function matrixCell(line, column) {
  const { model, m } = grid;
  const entries = line.cells.get(column) ?? [];
  const cell = h("td", { "aria-colindex": column + 2 });
  if (!entries.length) {
    cell.append(h("span", { class: "empty" }, emptyReason(line, column, model)));
    return cell;
  }
  const box = h("div", { class: "cluster" });
  const fit = entries.length > MOST_IN_CELL ? MOST_IN_CELL - 1 : entries.length;
  box.append(...entries.slice(0, fit).map((entry) => tile(entry, m)));
  if (fit < entries.length) {
    const only = [[model.rowAxis, line.row], [model.columnAxis, model.across[column]], [model.groupAxis, line.group]];
    box.append(h("button", { type: "button", class: "more", onclick: () => showOnly(only) }, `+ ${number(entries.length - fit)} more`));
  }
  cell.append(box);
  return cell;
}

function paintWall(force) {
  const { model, m } = grid;
  const list = find("ul", host);
  const top = window.scrollY + list.getBoundingClientRect().top;
  const line = (y) => Math.min(m.lines, Math.max(0, y));
  const from = grid.printing ? 0 : line(Math.floor((window.scrollY - top - OVER) / m.step));
  const to = grid.printing ? m.lines : line(Math.ceil((window.scrollY - top + innerHeight + OVER) / m.step));
  if (!force && from === grid.from && to === grid.to) return;
  Object.assign(grid, { from, to });
  list.style.gap = `${m.gap}px`;
  list.style.paddingTop = `${from * m.step}px`;
  list.style.paddingBottom = `${(m.lines - to) * m.step}px`;
  const kept = new Map([...list.children].map((item) => [Number(item.firstChild.dataset.entry), item]));
  const entries = model.sequence.slice(from * m.abreast, to * m.abreast);
  const items = entries.map((entry) => (!force && kept.get(entry)) || h("li", {}, tile(entry, m)));
  const wanted = new Set(items);
  for (const item of [...list.children]) if (!wanted.has(item)) item.remove();
  items.forEach((item, nth) => { if (list.children[nth] !== item) list.insertBefore(item, list.children[nth] ?? null); });
}
