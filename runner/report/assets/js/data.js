// The run, as the page carries it: columns with each distinct value once, and the axes.

const data = JSON.parse(find("#data").textContent);
const columns = new Map(Object.entries(data.columns));
const axes = data.axes;
const axisOf = new Map(axes.map((axis) => [axis.key, axis]));
const none = "—";

/** A field of an entry; null where it has none. */
function get(name, entry) {
  const column = columns.get(name);
  if (!column) return null;
  const place = column.i ? column.i[entry] : 0;
  return place < 0 ? null : column.v[place];
}

const varies = (name) => Boolean(columns.get(name)?.i) && columns.get(name).v.length > 1;

/** A value as text: what stands in a table, a select or the address. */
function shown(value) {
  if (value === null || value === undefined) return "null";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const placeText = (axis, place) => (place < 0 ? none : shown(axis.values[place]) || "(empty)");
const valueText = (axis, entry) => placeText(axis, axis.at[entry]);

/** The value with its key, unless the value speaks for itself. */
function headText(axis, place) {
  const text = placeText(axis, place);
  return axis.key === "prompt" || axis.key === "@variant" ? text : `${words(axis.label)} ${text}`;
}

const labelled = (axis, entry) => headText(axis, axis.at[entry]);

const isDone = (entry) => get("status", entry) === "done";

/** Why there is no picture: "Refused: content filter", "Failed: rate limit". */
function failureTitle(entry) {
  const status = get("status", entry);
  const kind = words(get("kind", entry) ?? "");
  const name = status.charAt(0).toUpperCase() + status.slice(1);
  return kind && kind !== status ? `${name}: ${kind}` : name;
}

/** Short words on what a person should know of an entry, each with a kind for its colour. */
function badges(entry) {
  const list = [];
  const attempts = get("attempts", entry) ?? 1;
  const warnings = (get("warnings", entry) ?? []).length;
  if (!isDone(entry)) list.push([failureTitle(entry), "bad"]);
  if (attempts > 1) list.push([`retried ${attempts - 1}`, "note"]);
  if (attempts === 0) list.push(["reused", "note"]);
  if (warnings) list.push([plural(warnings, "warning"), "note"]);
  return list;
}

const encoded = (path) => path.split("/").map(encodeURIComponent).join("/");
const fileUrl = (entry) => "images/" + encoded(get("file_name", entry));
const smallUrl = (entry) => (get("thumb", entry) ? `thumbs/${get("sha256", entry)}.webp` : fileUrl(entry));
const SVG = "image/svg+xml";
const canShow = new Set(["image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", SVG]);

/** Width and height; a drawing without a size of its own gets one. */
const sizeOf = (entry) => [get("width", entry) ?? 512, get("height", entry) ?? 512];

/** The picture at its full size, or its thumbnail where a browser cannot show the file itself. */
const largeUrl = (entry) => (canShow.has(get("mime", entry)) ? fileUrl(entry) : smallUrl(entry));

/** What a screen reader says for the picture. */
function altText(entry) {
  const prompt = get("prompt", entry) ?? "";
  const short = prompt.length > 120 ? prompt.slice(0, 119) + "…" : prompt;
  const seed = get("seed", entry);
  const by = `${get("provider", entry)} ${get("model", entry)}${seed === null ? "" : `, seed ${seed}`}`;
  return isDone(entry) ? `${short} – ${by}` : `${failureTitle(entry)} – ${short} – ${by}`;
}

const entryByCell = new Map();
for (let entry = 0; entry < data.count; entry += 1) entryByCell.set(get("cell_id", entry), entry);

/** The entry of a cell id or of its beginning, 8 digits at least; -1 where there is none. */
function entryOf(cell) {
  if (entryByCell.has(cell)) return entryByCell.get(cell);
  if (!/^[0-9a-f]{8,63}$/.test(cell ?? "")) return -1;
  for (const [id, entry] of entryByCell) if (id.startsWith(cell)) return entry;
  return -1;
}

const largestSide = Math.max(1, ...["width", "height"].flatMap((name) => columns.get(name)?.v ?? []));

/** Width by height of most pictures, between 1:2 and 2:1; 1 where they differ much. */
const aspect = (() => {
  const counts = new Map();
  let total = 0;
  for (let entry = 0; entry < data.count; entry += 1) {
    const width = get("width", entry);
    const height = get("height", entry);
    if (!width || !height) continue;
    const ratio = (width / height).toFixed(2);
    counts.set(ratio, (counts.get(ratio) ?? 0) + 1);
    total += 1;
  }
  const [ratio, count] = [...counts].reduce((best, item) => (item[1] > best[1] ? item : best), ["1", 0]);
  return count >= 0.9 * total ? Math.min(2, Math.max(0.5, Number(ratio))) : 1;
})();
