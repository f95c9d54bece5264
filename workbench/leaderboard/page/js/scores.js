// The matrix: a row for each model, a column for each mean and benchmark.

import { loadTests, measures, models, scoreOf, testOf } from "./board.js";
import { showMeasure, showModel, showScore, itemsText } from "./details.js";
import { announce, h, named, replace } from "./dom.js";
import { grid, sortable, sorted } from "./grid.js";
import { messageText, t } from "./language.js";
import { changeText, count, rangeText, rankText, scoreText } from "./numbers.js";
import { chips, modelName, note, roleName, sign, warnings } from "./parts.js";
import { choose, languageName, measureKey, measureName, reference, state, visibleMeasures, visibleModels } from "./state.js";

export function scoresView(root) {
  const shown = visibleMeasures().sort((x, y) => y.isMean - x.isMean || x.number - y.number);
  const rows = orderedModels(shown);
  const box = grid({
    caption: t("scores_caption"), className: "scores", head: [groupRow(shown), headRow(shown)], rows,
    row: (number) => [nameCell(number), ...shown.map((measure) => scoreCell(number, measure))],
    rowClass: (number) => (number === reference() ? "reference" : ""),
  });
  box.addEventListener("click", openScore);
  replace(root, h("h2", {}, t("scores")), box, note(t("scores_note")), note(t("means_note")));
  box.drawWindow?.();
  announce(t("shown", { n: rows.length, total: models.length }));
  loadTests().then((found) => found && state.view === "scores" && addSigns(box));
}

function orderedModels(shown) {
  const [key, direction] = sortOf(shown);
  const visible = visibleModels();
  if (key === "name") return sorted(visible, (number) => models[number].name, direction);
  const measure = shown.find((one) => measureKey(one) === key);
  if (!measure) return visible;
  return sorted(visible, (number) => valueOf(number, measure), direction);
}

function sortOf(shown) {
  if (state.sort) return [state.sort.slice(state.sort.indexOf(":") + 1), state.sort.startsWith("up:") ? "ascending" : "descending"];
  const first = shown.find((measure) => measure.isMean && measure.label === "all") ?? shown[0];
  return first ? [measureKey(first), first.lower ? "ascending" : "descending"] : ["name", "ascending"];
}

function sortBy([key, direction]) {
  choose({ sort: `${direction === "ascending" ? "up" : "down"}:${key}` });
  document.querySelector(`.scores button.sort[data-key="${CSS.escape(key)}"]`)?.focus();
}

function valueOf(number, measure) {
  const score = scoreOf(number, measure, state.means !== "raw");
  if (!score || score.apart) return null;
  if (state.show !== "differences") return score.value;
  const base = scoreOf(reference(), measure, state.means !== "raw");
  return base && !base.apart ? score.value - base.value : null;
}

function groupRow(shown) {
  const groups = [];
  for (const measure of shown) {
    const name = measure.isMean ? t("means") : languageName(measure.language);
    if (groups.at(-1)?.name === name) groups.at(-1).span++;
    else groups.push({ name, span: 1 });
  }
  return [h("td", { class: "name" }), ...groups.map(({ name, span }) => h("th", { scope: "colgroup", colspan: span }, h("span", {}, name)))];
}

function headRow(shown) {
  const sort = sortOf(shown);
  return [
    sortable("name", t("model"), sort, sortBy, { class: "name" }),
    ...shown.map((measure) => {
      const head = sortable(measureKey(measure), h("span", { class: "label" }, named(measure.isMean ? languageName(measure.label) : measure.label)), sort, sortBy, { class: "number" });
      head.append(h("button", { type: "button", class: "about", on: { click: () => showMeasure(measure) }, title: t("about", { name: measureName(measure) }), "aria-label": t("about", { name: measureName(measure) }) }, underHead(measure)));
      return head;
    }),
  ];
}

function underHead(measure) {
  if (measure.isMean) return t("columns_of", { n: measure.mean.columns.length });
  const column = measure.column;
  return [h("span", {}, `${column.metric}, ${column.num_fewshot}-shot`), h("span", {}, itemsText(column))];
}

function nameCell(number) {
  const model = models[number];
  return h("th", { scope: "row", class: "name" },
    h("button", { type: "button", class: "model", title: model.name, on: { click: () => showModel(number) } }, modelName(number)),
    h("span", { class: "chips" }, h("span", { class: `chip role ${CSS.escape(model.role)}` }, roleName(model.role)), warnings(number),
      number === reference() ? h("span", { class: "chip" }, t("reference")) : null, chips(number)));
}

function scoreCell(number, measure) {
  const score = scoreOf(number, measure, state.means !== "raw");
  const attributes = { class: "number", tabindex: -1, "data-place": `${number} ${measure.number}` };
  if (!score) return h("td", { class: "number empty" }, "–");
  if (score.apart) {
    return h("td", { ...attributes, class: "number apart" }, h("span", { class: "value" }, scoreText(score.value, measure.share)), h("span", { class: "below" }, messageText(score.apart)));
  }
  const value = valueOf(number, measure);
  const text = state.show === "differences" ? (number === reference() ? scoreText(score.value, measure.share) : changeText(value, measure.share)) : scoreText(score.value, measure.share);
  return h("td", { ...attributes, class: `number${score.best === 1 ? " best" : ""}` },
    h("span", { class: "value" }, text, signOf(number, measure)), below(score, measure));
}

function below(score, measure) {
  if (state.below === "nothing") return null;
  if (state.below === "intervals") return h("span", { class: "below" }, rangeText(score.low, score.high, measure.share));
  if (state.below === "items") return h("span", { class: "below" }, measure.isMean ? "" : count(score.items));
  return h("span", { class: "below" }, rankText(score), score.letters ? h("i", {}, ` ${score.letters}`) : null);
}

function signOf(number, measure) {
  const test = number === reference() ? null : testOf(reference(), number, measure);
  return test && (test.verdict === "better" || test.verdict === "worse") ? [" ", sign(test.verdict)] : null;
}

function openScore(event) {
  const [number, measure] = placeOf(event.target.closest("td[data-place]")) ?? [];
  if (measure) showScore(number, measure);
}

function placeOf(cell) {
  if (!cell) return null;
  const [number, measure] = cell.dataset.place.split(" ").map(Number);
  return [number, measures[measure]];
}

// The tests are unpacked after the first view; their signs are then put behind the scores.
function addSigns(box) {
  for (const cell of box.querySelectorAll("td[data-place]")) {
    if (!cell.querySelector(".sign")) cell.querySelector(".value")?.append(...(signOf(...placeOf(cell)) ?? []));
  }
}
