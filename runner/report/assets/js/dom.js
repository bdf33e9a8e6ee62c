// Small tools: making elements, words for figures, copying, announcing.

const find = (selector, root = document) => root.querySelector(selector);

/** Make an element. Text and attributes only: nothing is ever parsed as HTML. */
function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the symbols that the page carries. */
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function option(value, text, chosen) {
  const element = h("option", { value }, text);
  element.selected = value === chosen;
  return element;
}

/** A labelled select; `choices` are [value, text] pairs. */
function select(label, choices, chosen, onchange, props = {}) {
  const field = h("select", { onchange: (event) => onchange(event.target.value) });
  field.append(...choices.map(([value, text]) => option(value, text, chosen)));
  return h("label", { class: "field", ...props }, h("span", {}, label), field);
}

function iconButton(name, label, onclick, props = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props }, icon(name));
}

let announceLater = 0;

/** Say something to people who listen to the page. */
function announce(text) {
  clearTimeout(announceLater);
  announceLater = setTimeout(() => { find("#live").textContent = text; }, 150);
}

async function copy(text, button) {
  const said = await put(text);
  const before = button.textContent;
  if (!button.dataset.busy) {
    button.dataset.busy = "1";
    button.textContent = said;
    setTimeout(() => { button.textContent = before; delete button.dataset.busy; }, 1400);
  }
  announce(said);
}

/** The clipboard API needs a secure page; a page from a plain http address has only the old way. */
async function put(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return "Copied";
    } catch {
      // Refused by the browser: the old way may still be open.
    }
  }
  const area = h("textarea", { "aria-label": "copied text", class: "offscreen" });
  area.value = text;
  const host = find("dialog[open]") ?? document.body;
  const focused = document.activeElement;
  host.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done ? "Copied" : "Press Ctrl+C";
}

function copyButton(text, label = "Copy", what = "") {
  const button = h("button", { type: "button", class: "quiet", "aria-label": `${label} ${what}`.trim() }, label);
  button.addEventListener("click", () => copy(typeof text === "function" ? text() : text, button));
  return button;
}

function usd(amount) {
  if (amount === 0) return "$0";
  if (amount >= 1) return "$" + amount.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const digits = Math.max(4, 1 - Math.floor(Math.log10(amount)));
  const [whole, fraction] = amount.toFixed(Math.min(digits, 20)).split(".");
  return `$${whole}.${fraction.replace(/0+$/, "").padEnd(2, "0")}`;
}

function seconds(value) {
  if (value < 10) return value.toFixed(2) + " s";
  if (value < 60) return value.toFixed(1) + " s";
  const minutes = Math.floor(Math.round(value) / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(value) % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

const number = (value) => value.toLocaleString("en-US");
const words = (name) => String(name).replaceAll("_", " ");
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
