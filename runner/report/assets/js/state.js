// What is shown: kept in the address, so that a link or a reload brings it back.

const SIZES = [64, 96, 128, 192, 256, 320, 384, 512];
const SORTS = {
  plan: ["Plan order", null, 1],
  newest: ["Newest", "started_at", -1],
  slowest: ["Slowest", "latency_s", -1],
  fastest: ["Fastest", "latency_s", 1],
  dearest: ["Dearest", "cost_usd", -1],
  cheapest: ["Cheapest", "cost_usd", 1],
  largest: ["Largest file", "bytes", -1],
};
const RANGES = { cost: "cost_usd", time: "latency_s" };
const FIELDS = ["status", "provider", "model"];

function freshState() {
  const { rows, columns: across, group } = data.layout;
  return {
    view: rows || across ? "matrix" : "wall",
    rows: rows ?? "", columns: across ?? "", group: group ?? "",
    only: {}, q: "", ranges: {}, sort: "plan", size: 0, cell: "", pins: [],
  };
}

const standard = freshState();
const state = freshState();

function readHash() {
  const params = new URLSearchParams(location.hash.slice(1));
  Object.assign(state, freshState());
  for (const name of ["rows", "columns", "group"]) {
    const key = params.get(name);
    if (key !== null && (key === "" || axisOf.has(key))) state[name] = key;
  }
  if (["wall", "matrix"].includes(params.get("view"))) state.view = params.get("view");
  if (params.get("sort") in SORTS) state.sort = params.get("sort");
  if (SIZES.includes(Number(params.get("size")))) state.size = Number(params.get("size"));
  state.q = params.get("q") ?? "";
  state.cell = params.get("cell") ?? "";
  state.pins = (params.get("pin") ?? "").split(",").map(entryOf).filter((entry) => entry >= 0).slice(0, 4);
  for (const [name, value] of params) {
    const [kind, key] = [name.slice(0, 5), name.slice(5)];
    if (kind === "only." && (axisOf.has(key) || FIELDS.includes(key))) state.only[key] = value;
    if (/^(cost|time)\.(min|max)$/.test(name) && value !== "" && Number.isFinite(Number(value))) {
      state.ranges[name] = Number(value);
    }
  }
}

function hash() {
  const params = new URLSearchParams();
  for (const name of ["view", "rows", "columns", "group", "q", "sort"]) {
    if (state[name] !== standard[name]) params.set(name, state[name]);
  }
  if (state.size) params.set("size", state.size);
  for (const [key, value] of Object.entries(state.only)) params.set(`only.${key}`, value);
  for (const [key, value] of Object.entries(state.ranges)) params.set(key, value);
  if (state.pins.length) params.set("pin", state.pins.map((entry) => get("cell_id", entry).slice(0, 16)).join(","));
  if (state.cell) params.set("cell", state.cell);
  return "#" + params.toString();
}

/** Keep the state in the address; `step` makes it a step that the Back button undoes. */
function keepHash(step = false) {
  if (hash() === location.hash || (hash() === "#" && !location.hash)) return;
  history[step ? "pushState" : "replaceState"](null, "", hash());
}

const isFiltered = () =>
  state.q !== "" || Object.keys(state.only).length > 0 || Object.keys(state.ranges).length > 0;

/** The entries that pass every filter, in the chosen order. */
function chosenEntries() {
  const tests = [];
  const needle = state.q.toLowerCase();
  if (needle) {
    const texts = ["prompt", "revised_prompt", "negative_prompt"].map((name) => matching(name, needle));
    tests.push((entry) => texts.some((holds) => holds(entry)));
  }
  for (const [key, value] of Object.entries(state.only)) {
    const axis = axisOf.get(key);
    if (axis) tests.push((entry) => valueText(axis, entry) === value);
    else tests.push((entry) => get(key, entry) === value);
  }
  for (const [name, limit] of Object.entries(state.ranges)) {
    const [kind, end] = name.split(".");
    const field = RANGES[kind];
    tests.push((entry) => {
      const value = get(field, entry);
      return value !== null && (end === "min" ? value >= limit : value <= limit);
    });
  }
  const entries = [];
  for (let entry = 0; entry < data.count; entry += 1) {
    if (tests.every((test) => test(entry))) entries.push(entry);
  }
  const [, field, way] = SORTS[state.sort];
  if (field && state.view === "wall") {
    entries.sort((one, two) => {
      const [a, b] = [get(field, one), get(field, two)];
      if (a === null || b === null) return (a === null) - (b === null) || one - two;
      return (a < b ? -way : a > b ? way : 0) || one - two;
    });
  }
  return entries;
}

/** Each distinct text is searched once, however many entries hold it. */
function matching(name, needle) {
  const column = columns.get(name);
  if (!column) return () => false;
  const holds = column.v.map((text) => String(text).toLowerCase().includes(needle));
  return (entry) => {
    const place = column.i ? column.i[entry] : 0;
    return place >= 0 && holds[place];
  };
}
