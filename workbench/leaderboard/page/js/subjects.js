// Heat map: a row for each model, a column for each subject and group of one benchmark.

import { VERDICTS, columns, loadTests, scoreOf, measures, subjectTestOf } from "./board.js";
import { h, named, replace, select } from "./dom.js";
import { grid, sortable, sorted } from "./grid.js";
import { columnItems, subjectMeans } from "./items.js";
import { t } from "./language.js";
import { changeText, count, pText, rangeText, scoreText } from "./numbers.js";
import { modelName, note, sign, verdict } from "./parts.js";
import { choose, reference, state, visibleModels } from "./state.js";

export async function subjectsView(root) {
  const body = h("div", {}, h("p", {}, t("unpacking")));
  replace(root, h("h2", {}, t("subjects")), body);
  const tests = await loadTests();
  const all = await Promise.all(columns.map((_, number) => columnItems(number)));
  const split = all.filter((items) => items && items.subsets.length > 1);
  if (!split.length) return replace(body, h("p", {}, t("no_subjects")));
  const items = split.find((one) => columns[one.number].key === state.column) ?? split[0];
  const pickers = h("div", { class: "pickers" },
    select(t("column"), split.map((one) => [columns[one.number].key, columns[one.number].label]), columns[items.number].key, (column) => choose({ column })),
    select(t("show"), [["scores", t("scores")], ["differences", t("from_reference")]], state.heat, (heat) => choose({ heat })));
  replace(body, pickers, heatMap(items, tests), note(t("heat_note")), findings(items.number, tests));
}

function heatMap(items, tests) {
  const means = subjectMeans(items), base = items.rowOf.get(reference());
  const fields = [...groupFields(items, tests), ...items.subsets.map((name, subset) => ({
    name, size: means.counts[subset], value: (model) => means.mean(items.rowOf.get(model), subset),
  }))];
  const isDifference = state.heat === "differences" && base !== undefined;
  const value = (model, field) => {
    const found = field.value(model);
    return isDifference && found !== null ? found - field.value(reference()) : found;
  };
  const rows = ordered(visibleModels().filter((model) => items.rowOf.has(model)), fields, value);
  return grid({
    caption: t("heat_caption", { name: columns[items.number].label }), className: "heat", rows, height: 44,
    head: [[h("th", { scope: "col", class: "name" }, t("model")), ...fields.map((field) => sortable(field.name, h("span", { class: "label" }, named(field.name || "–")), sortOfHeat(), sortHeat, { class: "number" }))]],
    row: (model) => [h("th", { scope: "row", class: "name" }, modelName(model)), ...fields.map((field) => heatCell(model, field, value(model, field), isDifference, items.number))],
  });
}

let heatSort = ["", "descending"];

function sortOfHeat() {
  return heatSort;
}

function sortHeat(order) {
  heatSort = order;
  choose({});
}

function ordered(rows, fields, value) {
  const field = fields.find((one) => one.name === heatSort[0]);
  return field ? sorted(rows, (model) => value(model, field), heatSort[1]) : rows;
}

// Groups of subjects are the benchmark's own; their scores come with each model's score.
function groupFields(items, tests) {
  const names = new Map();
  for (const model of items.rowOf.keys()) {
    const score = scoreOf(model, measures[items.number]);
    const groups = (score && tests?.details[score.number]?.groups) ?? {};
    for (const [name, [, size]] of Object.entries(groups)) names.set(name, size);
  }
  return [...names].map(([name, size]) => ({
    name, size, isGroup: true,
    value: (model) => tests.details[scoreOf(model, measures[items.number])?.number]?.groups?.[name]?.[0] ?? null,
  }));
}

function heatCell(model, field, value, isDifference, column) {
  const test = subjectTestOf(reference(), model, column, field.name);
  const strength = value === null ? 0 : Math.min(100, Math.round(isDifference ? 200 * Math.abs(value) : 80 * value));
  const title = [`${field.name}: ${t("n_items", { n: count(field.size) })}`,
    test ? `${changeText(test.value, true)} (${rangeText(test.low, test.high, true, true)}), ${t(`verdict_${test.verdict}`)}; ${t("detectable")}: ${changeText(test.detectable, true)}` : ""].filter(Boolean).join("\n");
  return h("td", { class: `number warm ${isDifference ? (value < 0 ? "below-zero" : "above-zero") : ""}${field.isGroup ? " group" : ""}`, tabindex: -1, title, vars: { "--strength": `${strength}%` } },
    value === null ? "–" : isDifference ? changeText(value, true) : scoreText(value, true),
    test && (test.verdict === "better" || test.verdict === "worse") ? [" ", sign(test.verdict)] : null);
}

// Subjects in which the board found a difference.
function findings(column, tests) {
  if (!tests) return null;
  const list = tests.subjects;
  const found = list.first.map((_, i) => i).filter((i) => list.column[i] === column && ["better", "worse"].includes(VERDICTS[list.verdict[i]]));
  const total = list.first.filter((_, i) => list.column[i] === column).length;
  if (!total) return note(t("no_subject_tests"));
  return h("section", {}, h("h3", {}, t("subject_findings")), note(t("subject_findings_note", { n: count(found.length), total: count(total) })), found.length ? grid({
    caption: t("subject_findings"), className: "pair", rows: found, height: 44,
    head: [[h("th", { scope: "col", class: "name" }, t("subject")), ...["second", "first"].map((name) => h("th", { scope: "col" }, t(name))), ...["items", "difference", "p", "detectable"].map((name) => h("th", { scope: "col", class: "number" }, t(name))), h("th", { scope: "col" }, t("verdict"))]],
    row: (i) => [h("th", { scope: "row", class: "name" }, named(list.subject_names[list.subject[i]] || "–")), h("td", {}, modelName(list.second[i])), h("td", {}, modelName(list.first[i])),
      h("td", { class: "number" }, count(list.num_pairs[i])), h("td", { class: "number" }, h("span", { class: "value" }, changeText(list.value[i], true)), h("span", { class: "below" }, rangeText(list.low[i], list.high[i], true, true))),
      h("td", { class: "number" }, pText(list.p_adjusted[i] === null ? null : Math.log(list.p_adjusted[i]))), h("td", { class: "number" }, list.detectable[i] === null ? "–" : changeText(list.detectable[i], true)), h("td", {}, verdict(VERDICTS[list.verdict[i]]))],
  }) : null);
}
