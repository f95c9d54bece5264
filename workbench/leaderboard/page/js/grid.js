// A table that scrolls by itself, keeps head and names in sight, and draws only the rows in view if there are many.

import { h } from "./dom.js";

const MANY = 60;
const OVERSCAN = 4;

// On a narrow screen each row of a stacked table is a block of several lines, of this height where there are many rows.
const STACKED_HEIGHT = 116;
export const narrow = matchMedia("(max-width: 640px)");

// options: caption, label, head (rows of cells), rows (any values), row(value) -> cells, className, height, stacked
export function grid(options) {
  const many = options.rows.length > MANY;
  const body = h("tbody");
  const table = h("table", { class: `${options.className ?? ""}${options.stacked ? " stacked" : ""}${many ? " windowed" : ""}`, "aria-rowcount": options.rows.length + options.head.length },
    h("caption", {}, options.caption), h("thead", {}, options.head.map((cells) => h("tr", {}, cells))), body);
  const box = h("div", { class: "scroll", role: "region", "aria-label": options.caption, tabindex: 0 }, table);
  const line = (place) => h("tr", { "aria-rowindex": place + options.head.length + 1, class: options.rowClass?.(options.rows[place]) }, options.row(options.rows[place]));
  if (many) windowed(box, body, options, line);
  else body.append(...options.rows.map((_, place) => line(place)));
  if (options.stacked) giveRoles(table);
  moveByArrows(body);
  return box;
}

// Browsers may forget that blocks are rows and cells of a table.
function giveRoles(table) {
  table.role = "table";
  for (const part of [table.tHead, ...table.tBodies]) part.role = "rowgroup";
  for (const row of table.rows) {
    row.role = "row";
    for (const cell of row.cells) cell.role = cell.tagName === "TD" ? "cell" : cell.scope === "row" ? "rowheader" : "columnheader";
  }
}

function windowed(box, body, options, line) {
  const height = options.stacked && narrow.matches ? STACKED_HEIGHT : options.height ?? 54, columns = options.head.at(-1).length;
  const spacer = (rows) => h("tr", { class: "spacer", "aria-hidden": "true", vars: { height: `${rows * height}px` } }, h("td", { colspan: columns }));
  let shown = [-1, -1], printing = false;
  const draw = (first, last) => {
    if (first === shown[0] && last === shown[1]) return;
    const focused = body.contains(document.activeElement) ? document.activeElement.closest("tr")?.getAttribute("aria-rowindex") : null;
    const cell = focused ? [...document.activeElement.closest("tr").children].indexOf(document.activeElement.closest("th, td")) : 0;
    shown = [first, last];
    const lines = [];
    for (let place = first; place < last; place++) lines.push(line(place));
    body.replaceChildren(spacer(first), ...lines, spacer(options.rows.length - last));
    if (options.stacked && body.parentElement) giveRoles(body.parentElement);
    if (focused) refocus(body.querySelector(`tr[aria-rowindex="${focused}"]`)?.children[cell]);
  };
  const update = () => {
    if (printing) return;
    const rows = Math.ceil(0.84 * innerHeight / height);
    const first = Math.max(0, Math.floor(box.scrollTop / height) - OVERSCAN);
    draw(first, Math.min(options.rows.length, first + rows + 2 * OVERSCAN));
  };
  box.addEventListener("scroll", () => requestAnimationFrame(update), { passive: true });
  box.drawAll = () => {
    printing = true;
    draw(0, options.rows.length);
  };
  box.drawWindow = () => {
    printing = false;
    update();
  };
  update();
}

function refocus(cell) {
  (cell?.querySelector("button") ?? cell)?.focus({ preventScroll: true });
}

// Arrow keys move between the cells of a table; Enter on a cell is a click.
function moveByArrows(body) {
  body.addEventListener("keydown", (event) => {
    const cell = event.target.closest("th, td");
    if (!cell) return;
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (event.key === "Enter" && event.target === cell) cell.click();
    if (!step) return;
    const row = step[0] > 0 ? cell.parentElement.nextElementSibling : step[0] < 0 ? cell.parentElement.previousElementSibling : cell.parentElement;
    const next = row?.children[[...cell.parentElement.children].indexOf(cell) + step[1]];
    if (!next || row.classList.contains("spacer")) return;
    event.preventDefault();
    const target = next.querySelector("button") ?? next;
    if (target === next && !next.hasAttribute("tabindex")) next.setAttribute("tabindex", "-1");
    target.focus();
    target.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

// Head of a column by which a table is sorted; `sort` is [key, "ascending" | "descending"].
export function sortable(key, content, sort, onSort, attributes = {}) {
  const now = sort[0] === key ? sort[1] : null;
  return h("th", { scope: "col", "aria-sort": now ?? "none", ...attributes },
    h("button", { type: "button", class: "sort", "data-key": key, on: { click: () => onSort([key, now === "descending" ? "ascending" : "descending"]) } }, content));
}

// Places of the rows in order; rows without a value come last, either way.
export function sorted(rows, value, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [value(row), row]);
  const isMissing = (key) => key === null || key === undefined || Number.isNaN(key) || key === "";
  keyed.sort(([x], [y]) => isMissing(x) - isMissing(y) || (isMissing(x) ? 0 : sign * (typeof x === "string" ? collator.compare(x, y) : x - y)));
  return keyed.map(([, row]) => row);
}

const collator = new Intl.Collator(undefined, { numeric: true });
