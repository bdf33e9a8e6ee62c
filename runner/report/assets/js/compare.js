// Two to four pinned pictures with one zoom and one pan, side by side or blinking.

const comparison = find("#compare");
const MOST_PINS = 4;
const BLINK_MS = 700;
const look = { zoom: 1, x: 0, y: 0, blink: false, front: 0, timer: 0 };

function togglePin(entry) {
  const at = state.pins.indexOf(entry);
  if (at >= 0) state.pins.splice(at, 1);
  else if (state.pins.length === MOST_PINS) return announce(`Only ${MOST_PINS} pictures can be pinned.`);
  else state.pins.push(entry);
  keepHash();
  const button = find(".pin", tileOf(entry) ?? undefined);
  if (button) {
    button.setAttribute("aria-pressed", String(at < 0));
    button.setAttribute("aria-label", at < 0 ? "Unpin" : "Pin to compare");
    button.title = at < 0 ? "Unpin" : "Pin to compare";
  }
  buildTray();
  return announce(at < 0 ? `Pinned, ${state.pins.length} of ${MOST_PINS}` : `Unpinned, ${state.pins.length} left`);
}

function buildTray() {
  const tray = find("#tray");
  tray.hidden = state.pins.length === 0;
  document.body.classList.toggle("has-tray", !tray.hidden);
  const small = state.pins.map((entry) => h("li", {}, h("button", {
    type: "button", "aria-label": `Unpin ${altText(entry)}`, title: "Unpin", onclick: () => { togglePin(entry); find("#tray button")?.focus(); },
  }, h("img", { src: smallUrl(entry), alt: "", class: isCrisp(...sizeOf(entry), 48, 48) ? "crisp" : null }))));
  const ready = state.pins.length > 1;
  tray.replaceChildren(
    h("ul", {}, small),
    h("button", { type: "button", class: "main", disabled: !ready, onclick: openCompare }, ready ? `Compare ${state.pins.length}` : "Pin one more to compare"),
    h("button", { type: "button", class: "quiet", onclick: () => { state.pins.slice().forEach(togglePin); } }, "Clear"));
}

function openCompare() {
  Object.assign(look, { zoom: 1, x: 0, y: 0, front: 0, blink: false });
  fillCompare();
  comparison.showModal();
  show();
  find(".panes", comparison).focus();
}

comparison.addEventListener("close", () => {
  clearInterval(look.timer);
  find("#tray .main")?.focus();
});

function fillCompare() {
  const zoom = h("span", { class: "zoom" });
  const mode = (blink, name) => {
    const input = h("input", { type: "radio", name: "mode", onchange: () => { look.blink = blink; fillBlink(); show(); } });
    input.checked = look.blink === blink;
    return h("label", {}, input, h("span", {}, name));
  };
  const tools = h("div", { class: "tools" },
    h("h2", { id: "compare-title" }, "Compare"),
    h("fieldset", { class: "switch" }, h("legend", { class: "offscreen" }, "Arrangement"), mode(false, "Side by side"), mode(true, "Blink")),
    h("button", { type: "button", class: "quiet step", hidden: true, onclick: () => { look.front = (look.front + 1) % state.pins.length; show(); } }, "Next"),
    h("span", { class: "push" }),
    iconButton("minus", "Zoom out (-)", () => zoomBy(1 / 1.5)), zoom, iconButton("plus", "Zoom in (+)", () => zoomBy(1.5)),
    h("button", { type: "button", class: "quiet", onclick: () => { Object.assign(look, { zoom: 1, x: 0, y: 0 }); show(); } }, "Fit"),
    h("button", { type: "button", class: "quiet", onclick: onePixel }, "1:1"),
    iconButton("close", "Close (Escape)", () => comparison.close()));
  const panes = h("div", { class: "panes", tabindex: "0", role: "group", "aria-label": "Pictures: arrow keys move, plus and minus zoom, 0 fits" },
    state.pins.map((entry) => h("figure", {},
      h("div", { class: "pane" }, h("img", { src: largeUrl(entry), alt: altText(entry), draggable: "false" })),
      h("figcaption", {}, h("strong", {}, `${get("provider", entry)} · ${get("model", entry)}`), " ",
        axes.filter((axis) => axis.key !== "@variant" && axis.key !== "prompt").map((axis) => labelled(axis, entry)).join(" · ")))));
  panes.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = event.target.closest(".pane")?.getBoundingClientRect();
    if (box) zoomBy(Math.exp(-event.deltaY / 400), (event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5);
  }, { passive: false });
  panes.addEventListener("pointerdown", drag);
  comparison.replaceChildren(tools, panes, differences());
}

function drag(event) {
  const pane = event.target.closest(".pane");
  if (!pane || event.button) return;
  const box = pane.getBoundingClientRect();
  let [x, y] = [event.clientX, event.clientY];
  pane.setPointerCapture(event.pointerId);
  const move = (at) => {
    look.x += (at.clientX - x) / box.width;
    look.y += (at.clientY - y) / box.height;
    [x, y] = [at.clientX, at.clientY];
    show();
  };
  const end = () => pane.removeEventListener("pointermove", move);
  pane.addEventListener("pointermove", move);
  pane.addEventListener("pointerup", end, { once: true });
  pane.addEventListener("pointercancel", end, { once: true });
}

/** Zoom about a point of the pane; 0, 0 is its middle, -0.5 its left and top edge. */
function zoomBy(factor, x = 0, y = 0) {
  const zoom = Math.min(64, Math.max(0.25, look.zoom * factor));
  const real = zoom / look.zoom;
  look.x = x - (x - look.x) * real;
  look.y = y - (y - look.y) * real;
  look.zoom = zoom;
  show();
}

function onePixel() {
  const [width, height] = sizeOf(state.pins[look.front]);
  const pane = comparison.querySelectorAll(".pane")[look.front];
  const fit = Math.min(pane.clientWidth / width, pane.clientHeight / height);
  zoomBy(1 / devicePixelRatio / fit / look.zoom);
}

/** Put every picture where the common zoom and pan want it. */
function show() {
  comparison.querySelectorAll("figure").forEach((figure, nth) => {
    figure.hidden = look.blink && nth !== look.front;
    if (figure.hidden) return;
    const pane = find(".pane", figure);
    const picture = find("img", pane);
    const [width, height] = sizeOf(state.pins[nth]);
    const scale = Math.min(pane.clientWidth / width, pane.clientHeight / height) * look.zoom;
    picture.style.width = `${width * scale}px`;
    picture.style.height = `${height * scale}px`;
    picture.style.left = `${pane.clientWidth * (0.5 + look.x) - (width * scale) / 2}px`;
    picture.style.top = `${pane.clientHeight * (0.5 + look.y) - (height * scale) / 2}px`;
    picture.classList.toggle("crisp", scale * devicePixelRatio >= 2);
  });
  find(".zoom", comparison).textContent = `${Math.round(look.zoom * 100)} %`;
  find(".panes", comparison).classList.toggle("blink", look.blink);
}

/** Blinking stops with the mode, with the dialog, and never starts where motion is unwelcome. */
function fillBlink() {
  clearInterval(look.timer);
  find(".step", comparison).hidden = !look.blink;
  if (!look.blink || calm.matches) return;
  look.timer = setInterval(() => {
    look.front = (look.front + 1) % state.pins.length;
    show();
  }, BLINK_MS);
}

comparison.addEventListener("keydown", (event) => {
  if (!event.target.matches(".panes") || event.ctrlKey || event.altKey || event.metaKey) return;
  const pan = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (pan) {
    look.x += pan[0] * 0.05;
    look.y += pan[1] * 0.05;
    show();
  } else if (event.key === "+" || event.key === "=") zoomBy(1.5);
  else if (event.key === "-") zoomBy(1 / 1.5);
  else if (event.key === "0") { Object.assign(look, { zoom: 1, x: 0, y: 0 }); show(); }
  else return;
  event.preventDefault();
});

/** What is not the same for all of them. */
function differences() {
  const names = ["provider", "model", "prompt", "revised_prompt", "pipeline", ...REQUESTED, "model_reported", "latency_s", "cost_usd", "width", "height", "bytes", "attempts"];
  names.push(...[...columns.keys()].filter((name) => /^(sent|effective)\./.test(name)));
  const rows = [];
  for (const name of names) {
    const values = state.pins.map((entry) => get(name, entry));
    if (new Set(values.map(shown)).size < 2) continue;
    rows.push(h("tr", {}, h("th", { scope: "row" }, name), values.map((value) => h("td", { dir: "auto" }, value === null ? h("span", { class: "absent" }, none) : shown(value)))));
  }
  const head = state.pins.map((entry, nth) => h("th", { scope: "col" }, `${nth + 1}`));
  const body = rows.length ? h("table", { class: "plain" }, h("caption", {}, "What differs"), h("thead", {}, h("tr", {}, h("td"), head)), h("tbody", {}, rows)) : h("p", {}, "Nothing recorded differs.");
  return h("div", { class: "scroll differences", tabindex: "0", role: "group", "aria-label": "What differs" }, body);
}
