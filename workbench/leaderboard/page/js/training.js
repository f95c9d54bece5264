// Training curves of the models that have them.

import { loadTests, models } from "./board.js";
import { plot, plotWidth, scale } from "./chart.js";
import { h, replace, s, select } from "./dom.js";
import { grid } from "./grid.js";
import { t } from "./language.js";
import { count, precise } from "./numbers.js";
import { modelName, note } from "./parts.js";
import { choose, state, visibleModels } from "./state.js";

const MOST_LINES = 12;

export async function trainingView(root) {
  replace(root, h("h2", {}, t("training")), h("p", {}, t("unpacking")));
  const tests = await loadTests();
  if (state.view !== "training") return;
  const trained = visibleModels().filter((number) => models[number].curves && tests?.curves[number]);
  const names = [...new Set(trained.flatMap((number) => Object.keys(tests.curves[number])))];
  if (!names.length) return replace(root, h("h2", {}, t("training")), h("p", {}, t("no_curves")));
  const name = names.includes(state.curve) ? state.curve : names[0];
  const lines = trained.map((number) => ({ number, points: pointsOf(tests.curves[number][name]) })).filter((line) => line.points.length);
  replace(root, h("h2", {}, t("training")), h("div", { class: "pickers" }, select(t("curve"), names.map((one) => [one, one.replaceAll("_", " ")]), name, (curve) => choose({ curve }))),
    picture(root, lines.slice(0, MOST_LINES), name), lines.length > MOST_LINES ? note(t("curves_left", { n: MOST_LINES, total: lines.length })) : null, ends(lines, name));
}

function pointsOf(points) {
  return (Array.isArray(points) ? points : []).filter((point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite));
}

function picture(root, lines, name) {
  const width = plotWidth(root), points = lines.flatMap((line) => line.points);
  return plot({
    label: t("curve_label", { name }), width, height: Math.round(Math.min(420, width * 0.6)),
    x: scale(points.map(([step]) => step)), y: scale(points.map(([, value]) => value)),
    xText: (mark) => count(mark), yText: (mark) => precise(mark), xLabel: t("step"), yLabel: name.replaceAll("_", " "),
    draw: (px, py) => lines.map((line, place) => s("g", {}, s("title", {}, models[line.number].name),
      s("polyline", { class: `curve hue-${place % MOST_LINES}`, points: line.points.map(([step, value]) => `${px(step).toFixed(1)},${py(value).toFixed(1)}`).join(" ") }))),
  });
}

function ends(lines, name) {
  return grid({
    caption: t("curve_label", { name }), className: "pair", rows: lines.map((line, place) => ({ ...line, place })), height: 40,
    head: [[h("th", { scope: "col", class: "name" }, t("model")), ...["steps", "first_value", "last_value", "lowest"].map((key) => h("th", { scope: "col", class: "number" }, t(key)))]],
    row: (line) => {
      const values = line.points.map(([, value]) => value);
      return [h("th", { scope: "row", class: "name" }, line.place < MOST_LINES ? s("svg", { width: 20, height: 10, "aria-hidden": "true" }, s("line", { x1: 0, x2: 20, y1: 5, y2: 5, class: `curve hue-${line.place}` })) : null, " ", modelName(line.number)),
        h("td", { class: "number" }, count(line.points.at(-1)[0])), ...[values[0], values.at(-1), Math.min(...values)].map((value) => h("td", { class: "number" }, precise(value)))];
    },
  });
}
