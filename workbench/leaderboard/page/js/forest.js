// Paired differences of all models from a reference, in one measure.

import { columns, loadTests, measures, models, scoreOf, testOf } from "./board.js";
import { core } from "./data.js";
import { h, replace, select } from "./dom.js";
import { key, scale, strip, stripAxis } from "./chart.js";
import { grid, sorted } from "./grid.js";
import { columnItems, comparison } from "./items.js";
import { messageText, t } from "./language.js";
import { adjustedText, changeText, count, pText, precise, rangeText } from "./numbers.js";
import { modelName, note, verdict } from "./parts.js";
import { choose, chosenMeasure, measureKey, measureName, reference, visibleModels } from "./state.js";

export async function forestView(root) {
  const measure = chosenMeasure();
  if (!measure) return replace(root, h("p", {}, t("nothing")));
  const picker = select(t("column"), measures.map((one) => [measureKey(one), measureName(one)]), measureKey(measure), (value) => choose({ measure: value }));
  const body = h("div", { "aria-busy": "true" }, h("p", {}, t("unpacking")));
  replace(root, h("h2", {}, t("differences")), h("div", { class: "pickers" }, picker), body);
  await loadTests();
  const items = measure.isMean ? null : await columnItems(measure.number);
  const lines = visibleModels().filter((number) => number !== reference()).map((number) => differenceLine(number, measure, items)).filter(Boolean);
  replace(body, ...forest(measure, sorted(lines, (line) => line.value, "descending")));
  body.removeAttribute("aria-busy");
}

// The difference of a model from the reference: the board's own where it tested the pair, else a description.
function differenceLine(number, measure, items) {
  const base = scoreOf(reference(), measure), score = scoreOf(number, measure);
  const test = testOf(reference(), number, measure);
  if (test && test.value !== null) return { number, ...test, inFamily: true };
  if (!base || !score || base.apart || score.apart) return null;
  const found = items && comparison(items, reference(), number);
  const [low, high] = found?.interval ?? [null, null];
  return { number, value: score.value - base.value, low, high, gained: found?.gained ?? null, lost: found?.lost ?? null, logP: found?.logP ?? null, inFamily: false, problem: test?.problem ?? "" };
}

function forest(measure, lines) {
  if (!lines.length) return [h("p", {}, t("no_pairs"))];
  const axis = scale(lines.flatMap((line) => [line.value, line.low ?? line.value, line.high ?? line.value]), true);
  const outside = lines.some((line) => !line.inFamily);
  return [
    h("p", { class: "legend" }, h("span", {}, t("forest_of", { name: models[reference()].name, column: measureName(measure) })),
      ["better", "worse", "unsure"].map((kind) => key(kind, t(`verdict_${kind}`))), outside ? key("outside", t("outside")) : null),
    grid({
      caption: t("differences"), className: "forest", rows: lines, height: 44, stacked: true,
      head: [[h("th", { scope: "col", class: "name" }, t("model")), h("th", { scope: "col", class: "number" }, t("difference")),
        h("th", { scope: "col", class: "plotted" }, h("span", { class: "unseen" }, t("interval")), stripAxis(axis, (mark) => changeText(mark, measure.share))),
        h("th", { scope: "col" }, t("verdict")), h("th", { scope: "col", class: "number" }, t("p")), h("th", { scope: "col", class: "number" }, t("gained_lost"))]],
      row: (line) => forestRow(line, axis, measure),
    }),
    note(t("family_note", { kind: t(`kind_${core.family.kind}`), n: count(core.family.num_comparisons), alpha: `${precise(100 * core.family.alpha)}%` })),
    outside ? note(t("outside_note")) : null,
  ];
}

function forestRow(line, axis, measure) {
  const kind = line.inFamily ? line.verdict : "outside";
  return [
    h("th", { scope: "row", class: "name" }, h("button", { type: "button", class: "model", on: { click: () => openPair(line.number, measure) } }, modelName(line.number))),
    h("td", { class: "number difference" }, h("span", { class: "value" }, changeText(line.value, measure.share)), h("span", { class: "below" }, rangeText(line.low, line.high, measure.share, true))),
    h("td", { class: "plotted" }, strip(axis, line.value, line.low, line.high, kind)),
    h("td", { class: "judged" }, line.inFamily ? verdict(line.verdict) : h("span", { class: "verdict outside" }, t("outside")), line.problem ? h("span", { class: "below" }, messageText(line.problem)) : null),
    h("td", { class: "number first-fact", "data-label": t(line.inFamily ? "p" : "p_here") }, line.inFamily ? adjustedText(line) : h("i", { title: t("uncorrected") }, pText(line.logP))),
    h("td", { class: `number second-fact${measure.isMean ? " none" : ""}`, "data-label": t("gained_lost") }, line.gained === null || measure.isMean ? "–" : `${line.gained} / ${line.lost}`),
  ];
}

function openPair(number, measure) {
  choose({ view: "pair", a: models[reference()].key, b: models[number].key, ...(measure.isMean ? {} : { column: columns[measure.number].key }) });
}
