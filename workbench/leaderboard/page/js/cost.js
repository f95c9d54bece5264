// Score against what it costs: size, memory, speed.

import { measures, models, scoreOf } from "./board.js";
import { plot, plotWidth, scale, ticks } from "./chart.js";
import { h, named, replace, s, select } from "./dom.js";
import { grid, sorted } from "./grid.js";
import { t } from "./language.js";
import { factText, rankText, scoreText } from "./numbers.js";
import { factName, modelName, note } from "./parts.js";
import { choose, chosenMeasure, measureKey, measureName, state, visibleModels } from "./state.js";

const COSTS = ["size_bytes", "peak_bytes", "tokens_per_second", "num_parameters"];

export function knownCosts() {
  return COSTS.filter((name) => models.some((model) => Number.isFinite(model.facts[name]) && model.facts[name] > 0));
}

export function costView(root) {
  const costs = knownCosts(), measure = chosenMeasure();
  if (!costs.length || !measure) return replace(root, h("h2", {}, t("cost")), h("p", {}, t("no_cost")));
  const cost = costs.includes(state.cost) ? state.cost : costs[0];
  const points = visibleModels().map((number) => ({ number, x: models[number].facts[cost], score: scoreOf(number, measure, state.means !== "raw") }))
    .filter((point) => Number.isFinite(point.x) && point.x > 0 && point.score && !point.score.apart && point.score.value !== null);
  const moreIsBetter = cost.endsWith("_per_second");
  markFront(points, moreIsBetter, measure.lower);
  replace(root, h("h2", {}, t("cost")), h("div", { class: "pickers" },
    select(t("cost_axis"), costs.map((name) => [name, factName(name)]), cost, (value) => choose({ cost: value })),
    select(t("column"), measures.map((one) => [measureKey(one), measureName(one)]), measureKey(measure), (value) => choose({ measure: value }))),
  points.length ? scatter(root, points, cost, measure) : h("p", {}, t("nothing")), note(t("cost_note")), points.length ? table(points, cost, measure) : null);
}

// A point is on the front if no other is at least as good in both.
function markFront(points, moreIsBetter, lower) {
  const x = (point) => (moreIsBetter ? -point.x : point.x), y = (point) => (lower ? point.score.value : -point.score.value);
  for (const point of points) {
    point.front = !points.some((other) => other !== point && x(other) <= x(point) && y(other) <= y(point) && (x(other) < x(point) || y(other) < y(point)));
  }
}

function scatter(root, points, cost, measure) {
  const width = plotWidth(root), log = scale(points.map((point) => Math.log10(point.x)));
  const y = scale(points.flatMap((point) => [point.score.value, point.score.low ?? point.score.value, point.score.high ?? point.score.value]));
  const x = { low: log.low, high: log.high, at: (value) => log.at(value) };
  const labels = sorted(points.filter((point) => point.front), (point) => point.x, "ascending");
  return plot({
    label: t("cost_label", { cost: factName(cost), column: measureName(measure) }), width, height: Math.round(Math.min(460, width * 0.62)), x, y,
    xText: (mark) => factText(cost, Number((10 ** mark).toPrecision(2))), yText: (mark) => scoreText(mark, measure.share),
    xTicks: ticks(log.low, log.high, width < 500 ? 3 : 6), xLabel: `${factName(cost)} (${t("log_scale")})`, yLabel: measureName(measure),
    draw: (px, py) => [
      s("polyline", { class: "front", points: labels.map((point) => `${px(Math.log10(point.x))},${py(point.score.value)}`).join(" ") }),
      points.map((point) => dot(point, px(Math.log10(point.x)), py)),
      placed(labels, px, py, width),
    ],
  });
}

function dot(point, x, py) {
  const role = models[point.number].role;
  return s("g", {}, s("title", {}, `${models[point.number].name}`),
    point.score.low === null ? null : s("line", { x1: x, x2: x, y1: py(point.score.low), y2: py(point.score.high), class: "whisker faint" }),
    s("circle", { cx: x, cy: py(point.score.value), r: point.front ? 5.5 : 4, class: `dot role-${["base", "adapter", "merged", "trained"].includes(role) ? role : "other"}` }));
}

// Names of the front, left out where they would cover another.
function placed(points, px, py, width) {
  const taken = [];
  return points.map((point) => {
    const text = models[point.number].name.slice(0, 28), at = px(Math.log10(point.x)), y = py(point.score.value) + 4, size = text.length * 7;
    const left = at + size + 10 > width - 14, x = left ? at - 10 : at + 10;
    const box = [left ? x - size : x, y - 12, left ? x : x + size, y + 2];
    if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) return null;
    taken.push(box);
    return s("text", { x, y, "text-anchor": left ? "end" : "start", class: "point-name" }, text);
  });
}

function table(points, cost, measure) {
  return grid({
    caption: t("cost"), className: "pair", rows: sorted(points, (point) => point.x, "ascending"), height: 44,
    head: [[h("th", { scope: "col", class: "name" }, t("model")), h("th", { scope: "col", class: "number" }, factName(cost)), h("th", { scope: "col", class: "number" }, named(measureName(measure))), h("th", { scope: "col", class: "number" }, t("rank")), h("th", { scope: "col" }, t("front"))]],
    row: (point) => [h("th", { scope: "row", class: "name" }, modelName(point.number)), h("td", { class: "number" }, factText(cost, point.x)), h("td", { class: "number" }, scoreText(point.score.value, measure.share)), h("td", { class: "number" }, rankText(point.score)), h("td", {}, point.front ? "●" : "")],
  });
}
