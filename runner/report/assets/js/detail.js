// One picture at its full size, with everything that is known of it.

const detail = find("#detail");
const REQUESTED = [
  "seed", "size", "steps", "guidance_scale", "quality", "style", "background", "output_format",
  "image", "mask", "strength", "control_image", "control_scale", "negative_prompt",
];
const MOST_ENLARGED = 8;
let realPixels = false;
let showing = -1;

function openDetail(entry) {
  showing = entry;
  state.cell = get("cell_id", entry);
  keepHash(!detail.open);
  fillDetail(entry);
  if (!detail.open) {
    detail.showModal();
    fitStage();
    find(".stage", detail).focus();
  }
}

function closeDetail() {
  if (detail.open) detail.close();
}

detail.addEventListener("close", () => {
  if (state.cell) {
    state.cell = "";
    keepHash();
  }
  // The browser has given the focus back to where it came from; the last one shown is the place.
  if (grid.model.places.has(showing)) focusEntry(showing);
});

detail.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select, textarea")) return;
  const stage = find(".stage", detail);
  const canScroll = event.target === stage && stage.scrollWidth > stage.clientWidth;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step && !canScroll) {
    event.preventDefault();
    stepDetail(step);
  }
});

function stepDetail(step) {
  const { sequence } = grid.model;
  const next = sequence[sequence.indexOf(showing) + step];
  if (next === undefined) return;
  openDetail(next);
  announce(`${sequence.indexOf(next) + 1} of ${sequence.length}: ${altText(next)}`);
}

function fillDetail(entry) {
  const { sequence } = grid.model;
  const nth = sequence.indexOf(entry);
  const before = iconButton("left", "Previous (left arrow)", () => stepDetail(-1), { disabled: nth <= 0 });
  const after = iconButton("right", "Next (right arrow)", () => stepDetail(1), { disabled: nth < 0 || nth === sequence.length - 1 });
  const place = h("span", { class: "place" }, nth < 0 ? "" : `${number(nth + 1)} of ${number(sequence.length)}`);
  const close = iconButton("close", "Close (Escape)", closeDetail);
  const tools = h("div", { class: "tools" }, before, after, place, h("span", { class: "push" }));
  if (isDone(entry)) {
    const pinned = state.pins.includes(entry);
    tools.append(h("span", { class: "zoom" }), zoomSwitch(), h("button", {
      type: "button", class: "quiet", "aria-pressed": String(pinned),
      onclick: (event) => {
        togglePin(entry);
        const now = state.pins.includes(entry);
        event.currentTarget.textContent = now ? "Pinned" : "Pin";
        event.currentTarget.setAttribute("aria-pressed", String(now));
      },
    }, pinned ? "Pinned" : "Pin"));
  }
  tools.append(close);
  const had = detail.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  const stage = h("div", { class: "stage", tabindex: "0", role: "group", "aria-label": "Picture" });
  fillStage(stage, entry);
  detail.replaceChildren(h("div", { class: "show" }, tools, stage), panel(entry));
  if (detail.open) {
    fitStage();
    const same = had && find(`[aria-label="${CSS.escape(had)}"]:not([disabled])`, detail);
    (same || stage).focus();
  }
}

function fillStage(stage, entry) {
  const problem = get("problem", entry);
  if (!isDone(entry) || problem) {
    stage.append(h("div", { class: "no-picture" },
      h("strong", {}, problem ? "Cannot be shown" : failureTitle(entry)),
      h("p", {}, problem || get("message", entry) || "")));
    return;
  }
  const [width, height] = sizeOf(entry);
  const picture = h("img", { src: largeUrl(entry), alt: altText(entry), width, height, draggable: "false" });
  picture.addEventListener("error", () => {
    picture.replaceWith(h("div", { class: "no-picture" }, h("strong", {}, "Cannot be shown"), h("p", {}, "The file is missing or damaged.")));
  }, { once: true });
  stage.append(picture);
}

function zoomSwitch() {
  const choice = (real, text, label) => {
    const input = h("input", { type: "radio", name: "zoom", "aria-label": label, onchange: () => { realPixels = real; fitStage(); } });
    input.checked = realPixels === real;
    return h("label", {}, input, h("span", {}, text));
  };
  return h("fieldset", { class: "switch" }, h("legend", { class: "offscreen" }, "Zoom"),
    choice(false, "Fit", "Fit to the window"), choice(true, "1:1", "One image pixel on one screen pixel"));
}

/** Size the picture: whole screen pixels for each of its own where it is enlarged. */
function fitStage() {
  const stage = find(".stage", detail);
  const picture = find("img", stage);
  if (!picture) return;
  const [width, height] = [Number(picture.getAttribute("width")), Number(picture.getAttribute("height"))];
  const style = getComputedStyle(stage);
  const roomX = stage.clientWidth - parseFloat(style.paddingLeft) * 2;
  const roomY = stage.clientHeight - parseFloat(style.paddingTop) * 2;
  let scale = 1 / devicePixelRatio;
  if (!realPixels) {
    scale = Math.min(roomX / width, roomY / height, MOST_ENLARGED);
    if (scale * devicePixelRatio > 1) scale = Math.floor(scale * devicePixelRatio) / devicePixelRatio;
  }
  picture.style.width = `${width * scale}px`;
  picture.style.height = `${height * scale}px`;
  picture.classList.toggle("crisp", scale * devicePixelRatio >= 2);
  find(".zoom", detail).textContent = `${Math.round(scale * devicePixelRatio * 100)} %`;
}

function panel(entry) {
  const seed = get("seed", entry);
  const title = h("h2", { id: "detail-title", tabindex: "-1" }, `${get("provider", entry)} · ${get("model", entry)}`);
  const labels = axes.filter((axis) => axis.key !== "prompt" && axis.key !== "@variant").map((axis) => labelled(axis, entry));
  if (seed !== null && !axisOf.has("seed")) labels.push(`seed ${seed}`);
  const parts = [title, h("p", { class: "label" }, labels.join(" · "))];
  const marks = badges(entry);
  if (marks.length) parts.push(h("p", { class: "badges" }, marks.map(([text, kind]) => h("span", { class: `badge ${kind}` }, text))));
  for (const warning of get("warnings", entry) ?? []) parts.push(h("p", { class: "warning" }, warning));
  parts.push(...text("Prompt", get("prompt", entry)), ...text("Revised by the provider", get("revised_prompt", entry)),
    ...text("Negative prompt", get("negative_prompt", entry)), parameters(entry), facts(entry));
  const link = () => location.href.split("#")[0] + `#cell=${get("cell_id", entry)}`;
  parts.push(h("p", { class: "actions" }, copyButton(link, "Copy link"), copyButton(() => JSON.stringify(asRow(entry), null, 2), "Copy all as JSON")));
  return h("div", { class: "panel" }, parts);
}

function text(title, value) {
  if (!value) return [];
  return [h("div", { class: "bar" }, h("h3", {}, title), copyButton(value, "Copy", title.toLowerCase())), h("p", { class: "text", dir: "auto", tabindex: value.length > 400 ? "0" : null }, value)];
}

/** Requested, sent and effective are three things: one line for each name, three columns. */
function parameters(entry) {
  const native = (prefix) => new Map([...columns.keys()].filter((name) => name.startsWith(prefix))
    .map((name) => [name.slice(prefix.length), get(name, entry)]).filter(([, value]) => value !== null));
  const requested = new Map(REQUESTED.map((name) => [name, get(name, entry)]).filter(([name, value]) => value !== null && name !== "negative_prompt"));
  const [sent, effective] = [native("sent."), native("effective.")];
  const seedSent = get("seed_sent", entry);
  if (seedSent !== null && !sent.has("seed")) sent.set("seed", seedSent);
  const dropped = new Set(get("params_dropped", entry) ?? []);
  const names = [...new Set([...requested.keys(), ...sent.keys(), ...effective.keys(), ...dropped])];
  if (!names.length) return null;
  const cell = (map, name, other) => {
    if (!map.has(name)) return h("td", {}, h("span", { class: "absent" }, none));
    const value = shown(map.get(name));
    const changed = other?.has(name) && shown(other.get(name)) !== value;
    return h("td", {}, value, changed ? h("span", { class: "badge" }, "differs") : null);
  };
  const rows = names.map((name) => h("tr", {}, h("th", { scope: "row" }, name), cell(requested, name),
    dropped.has(name) ? h("td", {}, h("span", { class: "badge" }, "dropped")) : cell(sent, name, requested),
    cell(effective, name, sent.has(name) ? sent : requested)));
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Parameters" }, h("table", { class: "plain" }, h("caption", {}, "Parameters"),
    h("thead", {}, h("tr", {}, ["", "requested", "sent", "effective"].map((name) => (name ? h("th", { scope: "col" }, name) : h("td"))))),
    h("tbody", {}, rows)));
}

function facts(entry) {
  const list = h("dl", { class: "facts" });
  const add = (name, value, copied = null) => {
    if (value === null || value === undefined || value === "") return;
    list.append(h("dt", {}, name), h("dd", {}, value, copied ? copyButton(copied, "Copy", name) : null));
  };
  const code = (value) => value && h("code", {}, value);
  const cost = get("cost_usd", entry);
  const basis = get("cost_basis", entry);
  if (isDone(entry)) {
    add("picture", [`${get("width", entry) ?? "?"} × ${get("height", entry) ?? "?"} · `, `${(get("mime", entry) ?? "").replace("image/", "").toUpperCase()} · ${fileSize(get("bytes", entry) ?? 0)}`].join(""));
    add("time", seconds(get("latency_s", entry)));
  } else {
    add("outcome", failureTitle(entry));
    add("code", code(get("code", entry)));
    add("message", get("message", entry));
  }
  add("cost", cost === null ? "unknown" : basis && basis !== "free" ? `${usd(cost)} (${words(basis)})` : cost === 0 ? "free" : usd(cost));
  add("tries", get("attempts", entry) ?? 1);
  add("began", get("started_at", entry));
  add("pipeline", get("pipeline", entry));
  add("model reported", get("model_reported", entry));
  add("marks", (get("marks", entry) ?? []).join(", "));
  add("request id", code(get("request_id", entry)), get("request_id", entry));
  if (isDone(entry)) add("file", fileLink(entry));
  add("sha256", code(get("sha256", entry)), get("sha256", entry));
  add("pixels sha256", code(get("pixel_sha256", entry)), get("pixel_sha256", entry));
  add("cell", code(get("cell_id", entry)), get("cell_id", entry));
  const recipe = get("recipe", entry);
  const known = recipe && data.recipes[recipe];
  add("recipe", recipe && (known
    ? h("details", {}, h("summary", {}, h("code", {}, recipe)), h("pre", {}, JSON.stringify(known, null, 1)))
    : code(recipe)));
  return list;
}

/** A drawing opened by itself could run scripts as a page of this folder, so it is only named. */
function fileLink(entry) {
  const name = "images/" + get("file_name", entry);
  return get("mime", entry) === SVG ? h("span", {}, name) : h("a", { href: fileUrl(entry), target: "_blank", rel: "noopener" }, name);
}

/** The entry as one object, with the names of the record. */
function asRow(entry) {
  const row = { axes: Object.fromEntries(axes.filter((axis) => !axis.key.startsWith("@") && axis.at[entry] >= 0).map((axis) => [axis.key, axis.values[axis.at[entry]]])) };
  for (const name of columns.keys()) {
    const value = get(name, entry);
    if (value === null || name === "thumb") continue;
    const [prefix, key] = [name.slice(0, name.indexOf(".")), name.slice(name.indexOf(".") + 1)];
    if (prefix === "sent" || prefix === "effective") (row[`params_${prefix}`] ??= {})[key] = value;
    else row[name] = value;
  }
  return row;
}
