// One picture, or the reason why there is none.

function tile(entry, m) {
  const done = isDone(entry);
  const problem = get("problem", entry);
  const open = h("button", {
    type: "button", class: "picture", tabindex: "-1", "aria-haspopup": "dialog",
    onclick: () => openDetail(entry),
  });
  if (done && !problem) open.append(image(entry, m));
  else open.append(...reason(entry, m));
  const box = h("div", { class: "tile", "data-entry": entry }, open);
  if (done && !problem) box.append(pinButton(entry));
  if (m.captioned) box.append(caption(entry, m));
  return box;
}

function image(entry, m) {
  const [width, height] = sizeOf(entry);
  const picture = h("img", {
    alt: altText(entry), src: smallUrl(entry), loading: "lazy", decoding: "async", width, height,
    class: isCrisp(width, height, m.tile, m.picture) ? "crisp" : null,
  });
  picture.addEventListener("error", () => picture.replaceWith(...reason(entry, m, "The file is missing or damaged.")), { once: true });
  return picture;
}

/** Whether a picture is enlarged so much that its pixels look better as squares than blurred. */
function isCrisp(width, height, boxWidth, boxHeight) {
  const scale = Math.min(boxWidth / width, boxHeight / height) * devicePixelRatio;
  return scale >= 2;
}

/** What stands in the place of a picture; the whole text is for screen readers and the detail. */
function reason(entry, m, said = "") {
  const problem = said || get("problem", entry);
  const title = problem ? "Cannot be shown" : failureTitle(entry);
  const message = problem || get("message", entry) || get("code", entry) || "";
  const kind = problem ? "broken" : get("status", entry);
  return [
    h("span", { class: `reason ${kind}` },
      h("strong", {}, title),
      m.tile >= 112 && message ? h("span", { class: "message" }, message) : null),
    h("span", { class: "offscreen" }, `. ${altText(entry)}`),
  ];
}

function caption(entry, m) {
  const lines = [];
  if (m.caption.prompt) lines.push(h("p", { class: "prompt" }, get("prompt", entry) ?? ""));
  const { free } = m.caption;
  if (free.length) lines.push(h("p", { class: "label" }, free.map((axis) => labelled(axis, entry)).join(" · ")));
  const meta = h("p", { class: "meta" });
  const parts = badges(entry).filter(([, kind]) => kind !== "bad").map(([text]) => h("span", { class: "badge" }, text));
  const seed = get("seed", entry);
  if (seed !== null && !axisOf.has("seed")) parts.push(`seed ${seed}`);
  if (isDone(entry)) parts.push(seconds(get("latency_s", entry)));
  const cost = get("cost_usd", entry);
  if (cost) parts.push(usd(cost));
  parts.forEach((part, nth) => meta.append(nth ? " · " : "", part));
  lines.push(meta);
  return h("div", { class: "caption" }, lines);
}

function pinButton(entry) {
  const pinned = state.pins.includes(entry);
  return iconButton("pin", pinned ? "Unpin" : "Pin to compare", () => togglePin(entry), {
    class: "icon-button pin", "aria-pressed": String(pinned), tabindex: "-1",
  });
}

/** What an empty cell of the matrix says. */
function emptyReason(row, column, model) {
  if (isFiltered() && occupied(row, column, model)) return "filtered out";
  if (data.missing === 0) return "not in the plan";
  return data.status === "running" ? "not made yet" : "no image";
}

function occupied(row, column, model) {
  const { rowAxis, columnAxis, groupAxis } = model;
  for (let entry = 0; entry < data.count; entry += 1) {
    if ((!rowAxis || rowAxis.at[entry] === row.row) && (!groupAxis || groupAxis.at[entry] === row.group) &&
        (!columnAxis || columnAxis.at[entry] === model.across[column])) return true;
  }
  return false;
}
