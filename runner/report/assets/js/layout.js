// Where everything stands: which entries are in which cell, and how many pixels each row takes.
// Heights are computed, never measured, so that only the rows in view need to exist.

const GAP = 8;
const PAD = 10;
const LINE = 17;
const GROUP_HEIGHT = 44;
const MOST_IN_CELL = 12;
const MOST_TIMES = 4;

const freeAxes = () =>
  axes.filter((axis) => {
    const placed = state.view === "matrix" && [state.rows, state.columns, state.group].includes(axis.key);
    return !placed && !(axis.key in state.only);
  });

/** Sort the entries into the rows and cells of a matrix. */
function matrixModel(entries) {
  const [rowAxis, columnAxis, groupAxis] = [state.rows, state.columns, state.group].map((key) => axisOf.get(key));
  const at = (axis, entry) => (axis ? axis.at[entry] : 0);
  const last = (place) => (place < 0 ? Infinity : place);
  const across = [...new Set(entries.map((entry) => at(columnAxis, entry)))].sort((a, b) => last(a) - last(b));
  const columnOf = new Map(across.map((place, column) => [place, column]));
  const found = new Map();
  for (const entry of entries) {
    const [group, row] = [at(groupAxis, entry), at(rowAxis, entry)];
    const key = `${group} ${row}`;
    if (!found.has(key)) found.set(key, { group, row, cells: new Map() });
    const { cells } = found.get(key);
    const column = columnOf.get(at(columnAxis, entry));
    if (!cells.has(column)) cells.set(column, []);
    cells.get(column).push(entry);
  }
  const lines = [...found.values()].sort((a, b) => last(a.group) - last(b.group) || last(a.row) - last(b.row));
  const rows = [];
  let group = null;
  for (const line of lines) {
    if (groupAxis && line.group !== group) rows.push({ heading: line.group });
    group = line.group;
    rows.push(line);
  }
  let most = 1;
  for (const line of lines) for (const cell of line.cells.values()) most = Math.max(most, cell.length);
  const sequence = [];
  const places = new Map();
  rows.forEach((row, index) => {
    for (const column of [...(row.cells?.keys() ?? [])].sort((a, b) => a - b)) {
      row.cells.get(column).forEach((entry, nth) => {
        places.set(entry, { row: index, column, nth });
        sequence.push(entry);
      });
    }
  });
  return { kind: "matrix", rows, across, rowAxis, columnAxis, groupAxis, most, sequence, places };
}

function wallModel(entries) {
  return { kind: "wall", sequence: entries, places: new Map(entries.map((entry, nth) => [entry, { nth }])) };
}

/** Lines of text below a picture. */
function captionLines(model) {
  const prompt = model.kind === "wall" && varies("prompt") ? 2 : 0;
  // Seeds that count up with the image number say it already.
  const counted = varies("seed") && !axisOf.has("seed");
  const free = freeAxes().filter((axis) => (axis.key !== "prompt" || model.kind === "matrix") && (axis.key !== "@image" || !counted));
  return { prompt, free, count: prompt + (free.length ? 1 : 0) + 1 };
}

/** How many pictures of a cell stand side by side. */
function sideBySide(most, narrow) {
  const count = Math.min(most, MOST_IN_CELL);
  const ideal = count <= 3 ? count : Math.min(4, Math.ceil(Math.sqrt(count)));
  return narrow ? Math.min(2, ideal) : ideal;
}

/** The side of a picture, so that this many columns fill the room. */
function fillingTile(room, count, abreast) {
  const step = largestSide <= 128 ? 64 : 16;
  const side = (room / count - 2 * PAD + GAP) / abreast - GAP;
  return Math.floor(side / step) * step;
}

/** Sizes in pixels, and the offset of every row. */
function measure(model, width, printing) {
  const m = { caption: captionLines(model), head: 0 };
  if (model.kind === "matrix") measureMatrix(m, model, width, printing);
  else measureWall(m, model, width, printing);
  m.picture = Math.round(m.tile / aspect);
  m.captioned = m.tile >= 96;
  m.tall = m.picture + (m.captioned ? m.caption.count * LINE + 8 : 0);
  if (model.kind === "wall") {
    m.step = m.tall + m.gap;
    m.lines = Math.ceil(model.sequence.length / m.abreast);
  } else m.offsets = rowOffsets(m, model);
  return m;
}

function measureMatrix(m, model, width, printing) {
  const count = model.across.length;
  const narrow = width < 640;
  m.head = narrow ? 96 : Math.round(Math.min(280, Math.max(170, width * 0.17)));
  m.abreast = sideBySide(model.most, narrow);
  const room = width - m.head - (narrow ? 0 : 12);
  let tile = Math.min(256, MOST_TIMES * largestSide, fillingTile(room, count, m.abreast));
  if (printing) tile = Math.max(48, tile);
  else if (narrow && tile < 112) tile = Math.max(96, fillingTile(room, m.abreast === 1 ? 2 : 1, m.abreast));
  else tile = Math.max(Math.min(128, MOST_TIMES * largestSide), tile);
  m.tile = (!printing && state.size) || tile;
  if (narrow && m.tile > tile) m.abreast = Math.max(1, Math.floor((room - 2 * PAD + GAP) / (m.tile + GAP)));
  m.column = m.abreast * m.tile + (m.abreast - 1) * GAP + 2 * PAD;
}

function measureWall(m, model, width, printing) {
  const count = model.sequence.length;
  const room = width - 2 * edge(width);
  const roomy = count > 12 ? 192 : Math.min(count === 1 ? 512 : count <= 3 ? 384 : 256, MOST_TIMES * largestSide);
  const tile = printing ? 160 : width < 640 && count > 1 ? Math.floor((room - 12) / 2) : roomy;
  m.tile = Math.min((!printing && state.size) || tile, room);
  m.gap = m.tile >= 192 ? 20 : 12;
  m.abreast = Math.max(1, Math.floor((room + m.gap) / (m.tile + m.gap)));
  // Full lines end where the page ends; few, or small, pictures keep their size.
  const filling = count > m.abreast && largestSide > 128;
  if (filling && !state.size && !printing) m.tile = Math.floor((room + m.gap) / m.abreast) - m.gap;
}

function rowOffsets(m, model) {
  const offsets = new Float64Array(model.rows.length + 1);
  model.rows.forEach((row, index) => {
    let height = GROUP_HEIGHT;
    if (row.cells) {
      const most = Math.max(...[...row.cells.values()].map((cell) => Math.min(cell.length, MOST_IN_CELL)));
      const lines = Math.ceil(most / m.abreast);
      height = lines * m.tall + (lines - 1) * GAP + 2 * PAD + 1;
    }
    offsets[index + 1] = offsets[index] + height;
  });
  return offsets;
}

const edge = (width) => (width < 640 ? 16 : 28);

/** The last place in ascending numbers that is not beyond the value. */
function lastNotBeyond(numbers, value) {
  let low = 0;
  let high = numbers.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (numbers[middle] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
