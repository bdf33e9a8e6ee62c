// Choosing the axes, the filters, the order and the size.

const MOST_CHOICES = 300;

function change(changes) {
  Object.assign(state, changes);
  buildToolbar();
  refresh();
}

function refresh() {
  keepHash();
  find("#clear")?.toggleAttribute("hidden", !isFiltered());
  render();
}

function clearFilters() {
  change({ only: {}, q: "", ranges: {} });
  find("#toolbar input[type=search]")?.focus();
}

/** From a full cell of the matrix to all its pictures on the wall. */
function showOnly(places) {
  const only = { ...state.only };
  for (const [axis, place] of places) if (axis) only[axis.key] = placeText(axis, place);
  change({ view: "wall", only });
  scrollTo({ top: find("#toolbar").offsetTop, behavior: "instant" });
}

function setOnly(key, value) {
  const only = { ...state.only };
  if (value === "") delete only[key];
  else only[key] = value.slice(1);
  change({ only });
  focusField(key);
}

/** The toolbar is drawn anew on each change; the field that was used keeps the focus. */
function focusField(key) {
  find(`#toolbar [data-field="${CSS.escape(key)}"] select, #toolbar [data-field="${CSS.escape(key)}"] input`)?.focus();
}

function onlyField(key, label, values) {
  if (values.length > MOST_CHOICES) {
    const field = h("input", { type: "text", placeholder: "any", onchange: (event) => setOnly(key, event.target.value && `=${event.target.value}`) });
    field.value = state.only[key] ?? "";
    return h("label", { class: "field", "data-field": key }, h("span", {}, label), field);
  }
  const short = (text) => (text.length > 60 ? text.slice(0, 59) + "…" : text);
  // A leading "=" keeps "any" apart from an empty value.
  const choices = [["", "any"], ...values.map((text) => [`=${text}`, short(text)])];
  const chosen = key in state.only ? `=${state.only[key]}` : "";
  return select(label, choices, chosen, (value) => setOnly(key, value), { "data-field": key });
}

const axisField = (axis) => onlyField(axis.key, axis.label, axis.values.map((_, place) => placeText(axis, place)));

function rangeField(kind, label, unit) {
  const input = (end, word) => {
    const name = `${kind}.${end}`;
    const field = h("input", {
      type: "number", min: "0", step: "any", placeholder: word, "aria-label": `${label} ${word}`,
      onchange: (event) => {
        const ranges = { ...state.ranges };
        if (event.target.value === "") delete ranges[name];
        else ranges[name] = Number(event.target.value);
        change({ ranges });
        find(`#toolbar [data-range="${name}"]`)?.focus();
      }, "data-range": name,
    });
    field.value = state.ranges[name] ?? "";
    return field;
  };
  return h("div", { class: "field range" }, h("span", {}, `${label}, ${unit}`), input("min", "from"), input("max", "to"));
}

function placeFields() {
  const choices = (blank, taken) => [["", blank], ...axes.filter((axis) => !taken.includes(axis.key)).map((axis) => [axis.key, axis.label])];
  const put = (name) => (value) => {
    const changes = { [name]: value };
    // An axis stands in one place: the place it is taken from gets what stood here.
    for (const other of ["rows", "columns", "group"]) if (other !== name && value && state[other] === value) changes[other] = other === "group" ? "" : state[name];
    change(changes);
    focusField(name);
  };
  const fields = [
    select("Rows", choices("–", []), state.rows, put("rows"), { "data-field": "rows" }),
    iconButton("swap", "Swap rows and columns", () => change({ rows: state.columns, columns: state.rows })),
    select("Columns", choices("–", []), state.columns, put("columns"), { "data-field": "columns" }),
  ];
  if (axes.length > 2) fields.push(select("Sections", choices("–", [state.rows, state.columns].filter(Boolean)), state.group, put("group"), { "data-field": "group" }));
  return fields;
}

function viewSwitch() {
  const choice = (view, text) => {
    const input = h("input", { type: "radio", name: "view", value: view, onchange: () => { change({ view }); find(`#toolbar input[value=${view}]`).focus(); } });
    input.checked = state.view === view;
    return h("label", {}, input, h("span", {}, text));
  };
  return h("fieldset", { class: "switch" }, h("legend", { class: "offscreen" }, "View"), choice("matrix", "Matrix"), choice("wall", "Wall"));
}

function sizeField() {
  const field = h("input", { type: "range", min: "0", max: String(SIZES.length - 1), step: "1" });
  const shownSize = SIZES.findLastIndex((size) => size <= (state.size || grid.m?.tile || 192));
  field.value = String(Math.max(0, shownSize));
  field.setAttribute("aria-valuetext", `${SIZES[field.value]} pixels`);
  field.addEventListener("input", () => {
    state.size = SIZES[field.value];
    field.setAttribute("aria-valuetext", `${state.size} pixels`);
    refresh();
  });
  return h("label", { class: "field size" }, h("span", {}, "Size"), field);
}

function searchField() {
  const field = h("input", { type: "search", placeholder: narrow.matches ? "Find" : "Find in prompts", "aria-label": "Find in prompts", spellcheck: "false" });
  field.value = state.q;
  let later = 0;
  field.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(() => { state.q = field.value; refresh(); }, 120);
  });
  return field;
}

let filtersOpen = false;
const narrow = matchMedia("(max-width: 639px)");
narrow.addEventListener("change", buildToolbar);

function filterPanel() {
  const fields = FIELDS
    .filter((name) => varies(name) && !axes.some((axis) => axis.key === "@variant" && axis.label === name))
    .map((name) => onlyField(name, name, columns.get(name).v));
  const placed = state.view === "matrix" ? [state.rows, state.columns, state.group] : axes.map((axis) => axis.key);
  fields.push(...axes.filter((axis) => placed.includes(axis.key)).map(axisField));
  if (varies("cost_usd")) fields.push(rangeField("cost", "cost", "$"));
  if (varies("latency_s")) fields.push(rangeField("time", "time", "s"));
  if (state.view === "wall") {
    const sorts = Object.entries(SORTS).filter(([, [, field]]) => !field || varies(field)).map(([key, [text]]) => [key, text]);
    fields.push(select("order", sorts, state.sort, (sort) => { change({ sort }); focusField("sort"); }, { "data-field": "sort" }));
  }
  fields.push(h("button", { type: "button", id: "clear", class: "quiet", hidden: !isFiltered(), onclick: clearFilters }, "Clear filters"));
  return h("div", { class: "filters", id: "filters", hidden: !filtersOpen }, fields);
}

function buildToolbar() {
  const bar = find("#toolbar");
  bar.hidden = data.count < 2;
  const few = axes.length < 2 && data.count <= 12;
  const panel = filterPanel();
  const active = Object.keys(state.only).length + Object.keys(state.ranges).length;
  const toggle = h("button", { type: "button", class: "toggle", "aria-expanded": String(filtersOpen), "aria-controls": "filters" },
    `${narrow.matches ? "Options" : "Filter and order"}${active ? ` (${active})` : ""}`);
  toggle.addEventListener("click", () => {
    filtersOpen = !filtersOpen;
    panel.hidden = !filtersOpen;
    toggle.setAttribute("aria-expanded", String(filtersOpen));
  });
  const line = h("div", { class: "line" });
  const arranging = [];
  if (axes.length > 1 && state.view === "matrix") {
    arranging.push(...placeFields());
    arranging.push(...axes.filter((axis) => ![state.rows, state.columns, state.group].includes(axis.key)).map(axisField));
  }
  const sizing = sizeField();
  if (axes.length > 1) line.append(viewSwitch());
  // A phone has no room for all of it above the pictures.
  if (narrow.matches && !few) panel.prepend(...arranging, sizing);
  else line.append(...arranging);
  if (!few) line.append(searchField(), toggle);
  if (!narrow.matches || few) line.append(sizing);
  line.append(find("#count") ?? h("span", { id: "count" }));
  bar.replaceChildren(line, ...(few ? [] : [panel]));
}
