// Axes and plots as SVG.

import { h, s } from "./dom.js";

// Round numbers of an axis, at most about `most`.
export function ticks(low, high, most = 6) {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / most));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= most);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

// An axis from values, with room at both ends; `zero` makes it hold 0.
export function scale(values, zero = false) {
  const finite = values.filter((value) => Number.isFinite(value));
  if (zero) finite.push(0);
  const low = Math.min(...finite), high = Math.max(...finite);
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  return { low: low - pad, high: high + pad, at: (value) => (value - low + pad) / (high - low + 2 * pad) };
}

export function percent(axis, value) {
  return `${(100 * Math.min(1, Math.max(0, axis.at(value)))).toFixed(2)}%`;
}

// A point with its interval on a strip that all rows share.
export function strip(axis, value, low, high, className, marks = ticks(axis.low, axis.high, 5)) {
  const line = (x, kind) => s("line", { x1: percent(axis, x), x2: percent(axis, x), y1: 0, y2: "100%", class: kind });
  return s("svg", { class: "strip", "aria-hidden": "true" }, marks.map((mark) => line(mark, mark === 0 ? "zero" : "mark")),
    low === null || low === undefined ? null
      : s("line", { x1: percent(axis, low), x2: percent(axis, high), y1: "50%", y2: "50%", class: `whisker ${className}` }),
    s("circle", { cx: percent(axis, value), cy: "50%", r: 4.5, class: `dot ${className}` }));
}

export function stripAxis(axis, text) {
  return s("svg", { class: "strip axis", "aria-hidden": "true" }, ticks(axis.low, axis.high, 5).map((mark) =>
    s("text", { x: percent(axis, mark), y: "70%", "text-anchor": "middle" }, text(mark))));
}

// A plot with labelled axes; `draw(x, y)` returns what is inside, with functions from values to pixels.
export function plot({ label, width, height, x, y, xText, yText, xLabel, yLabel, xTicks, draw }) {
  const left = 56, right = 14, top = 14, bottom = 46;
  const px = (value) => left + x.at(value) * (width - left - right);
  const py = (value) => height - bottom - y.at(value) * (height - top - bottom);
  return s("svg", { class: "plot", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    ticks(y.low, y.high).map((mark) => [
      s("line", { x1: left, x2: width - right, y1: py(mark), y2: py(mark), class: "mark" }),
      s("text", { x: left - 6, y: py(mark) + 4, "text-anchor": "end" }, yText(mark)),
    ]),
    (xTicks ?? ticks(x.low, x.high, width < 500 ? 4 : 7)).map((mark) => [
      s("line", { x1: px(mark), x2: px(mark), y1: top, y2: height - bottom, class: "mark" }),
      s("text", { x: px(mark), y: height - bottom + 16, "text-anchor": "middle" }, xText(mark)),
    ]),
    s("text", { x: left + (width - left - right) / 2, y: height - 6, "text-anchor": "middle", class: "axis-label" }, xLabel),
    s("text", { x: -(top + (height - top - bottom) / 2), y: 14, "text-anchor": "middle", transform: "rotate(-90)", class: "axis-label" }, yLabel),
    draw(px, py));
}

export function plotWidth(root) {
  return Math.min(920, Math.max(300, (root.clientWidth || 900)));
}

export function key(className, text) {
  return h("span", { class: "key" }, s("svg", { width: 26, height: 12, "aria-hidden": "true" },
    s("line", { x1: 1, x2: 25, y1: 6, y2: 6, class: `whisker ${className}` }), s("circle", { cx: 13, cy: 6, r: 4.5, class: `dot ${className}` })), text);
}
