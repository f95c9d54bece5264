// Any two models: a line for each column, then one column question by question.

import { columns, loadTests, measures, models, scoreOf, testOf } from "./board.js";
import { h, named, replace, select } from "./dom.js";
import { grid } from "./grid.js";
import { columnAnswers, columnItems, comparison, itemScore } from "./items.js";
import { t } from "./language.js";
import { adjustedText, changeText, count, pText, rangeText, scoreText } from "./numbers.js";
import { modelName, modelOptions, note, verdict } from "./parts.js";
import { questionList } from "./questions.js";
import { choose, pair, state } from "./state.js";

export async function pairView(root) {
  const [a, b] = pair();
  if (b < 0) return replace(root, h("h2", {}, t("pair")), h("p", {}, t("no_pairs")));
  const all = modelOptions(models.map((_, number) => number));
  const table = h("div", {}, h("p", {}, t("unpacking"))), items = h("div", { id: "pair-items" });
  replace(root, h("h2", {}, t("pair")),
    h("div", { class: "pickers" },
      select(t("first"), all, models[a].key, (value) => choose({ a: value, b: models[b].key })),
      select(t("second"), all, models[b].key, (value) => choose({ a: models[a].key, b: value })),
      h("button", { type: "button", on: { click: () => choose({ a: models[b].key, b: models[a].key }) } }, t("swap"))),
    table, items);
  await loadTests();
  const lines = await Promise.all(columns.map((_, number) => pairLine(number, a, b)));
  const known = lines.filter(Boolean);
  if (!known.length) return replace(table, h("p", {}, t("no_items")));
  const chosen = known.find((line) => columns[line.number].key === state.column) ?? known.find((line) => line.gained + line.lost > 0) ?? known[0];
  replace(table, pairTable(known, chosen, a, b), note(t("pair_note")));
  await showColumn(items, chosen, a, b);
}

async function pairLine(number, a, b) {
  const items = await columnItems(number);
  const found = items && comparison(items, a, b);
  return found && { number, items, ...found, test: testOf(a, b, measures[number]), name: found.test };
}

function pairTable(lines, chosen, a, b) {
  return grid({
    caption: t("pair_caption"), className: "pair", rows: lines,
    rowClass: (line) => (line === chosen ? "chosen" : ""),
    head: [[h("th", { scope: "col", class: "name" }, t("column")), h("th", { scope: "col", class: "number" }, modelName(a)), h("th", { scope: "col", class: "number" }, modelName(b)),
      h("th", { scope: "col", class: "number" }, t("difference")), h("th", { scope: "col", class: "number" }, t("gained")), h("th", { scope: "col", class: "number" }, t("lost")),
      h("th", { scope: "col", class: "number" }, t("p_here")), h("th", { scope: "col" }, t("board_says"))]],
    row: (line) => pairRow(line, a, b),
  });
}

function pairRow(line, a, b) {
  const measure = measures[line.number], first = scoreOf(a, measure), second = scoreOf(b, measure);
  const [low, high] = line.interval ?? [null, null];
  const open = () => choose({ a: models[a].key, b: models[b].key, column: columns[line.number].key, subject: "" });
  return [
    h("th", { scope: "row", class: "name" }, h("button", { type: "button", class: "model", on: { click: open } }, named(measure.label))),
    h("td", { class: "number" }, scoreText(first?.value, measure.share)),
    h("td", { class: "number" }, scoreText(second?.value, measure.share)),
    h("td", { class: "number" }, h("span", { class: "value" }, changeText(line.interval ? line.value : first && second ? second.value - first.value : null, measure.share)), h("span", { class: "below" }, rangeText(low, high, measure.share, true))),
    h("td", { class: "number gained" }, count(line.gained)),
    h("td", { class: "number lost" }, count(line.lost)),
    h("td", { class: "number", title: t(`test_${line.name}`) }, h("i", {}, pText(line.logP))),
    h("td", {}, line.test ? [verdict(line.test.verdict), h("span", { class: "below" }, `${rangeText(line.test.low, line.test.high, measure.share, true)} · p ${adjustedText(line.test)} ${t("of_family", { n: count(line.test.family) })}`)]
      : h("span", { class: "verdict outside" }, t("outside"))),
  ];
}

async function showColumn(root, line, a, b) {
  const column = columns[line.number];
  replace(root, h("h3", {}, named(column.label)), h("p", {}, t("unpacking")));
  const answers = await columnAnswers(line.number);
  const cells = [[0, 0], [0, 0]];
  for (let item = 0; item < line.size; item++) cells[Number(itemScore(line.items, item, line.a) > 0)][Number(itemScore(line.items, item, line.b) > 0)]++;
  replace(root, h("h3", {}, named(column.label)),
    line.items.isBinary ? counts(cells, a, b) : null,
    subjects(line),
    questionList(line, answers, a, b));
}

function counts(cells, a, b) {
  const row = (text, values) => h("tr", {}, h("th", { scope: "row" }, text), values.map((value) => h("td", { class: "number" }, count(value))));
  return h("table", { class: "counts" }, h("caption", {}, t("counts_caption")),
    h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col", class: "number" }, modelName(b), " ", t("right")), h("th", { scope: "col", class: "number" }, modelName(b), " ", t("wrong")))),
    h("tbody", {}, row([modelName(a), " ", t("right")], [cells[1][1], cells[1][0]]), row([modelName(a), " ", t("wrong")], [cells[0][1], cells[0][0]])));
}

function subjects(line) {
  const names = line.items.subsets;
  if (names.length < 2) return null;
  const found = names.map((name) => ({ name, size: 0, gained: 0, lost: 0 }));
  line.signs.forEach((sign, item) => {
    const subject = found[line.items.subset[item]];
    subject.size++;
    if (sign > 0) subject.gained++; else if (sign < 0) subject.lost++;
  });
  found.sort((x, y) => (y.gained - y.lost) / y.size - (x.gained - x.lost) / x.size);
  const open = (name) => choose({ subject: name });
  return h("details", { class: "by-subject", open: names.length <= 12 }, h("summary", {}, t("by_subject")), grid({
    caption: t("by_subject"), className: "pair", rows: found, height: 40,
    head: [[h("th", { scope: "col", class: "name" }, t("subject")), ...["items", "gained", "lost", "difference"].map((name) => h("th", { scope: "col", class: "number" }, t(name)))]],
    row: (subject) => [h("th", { scope: "row", class: "name" }, h("button", { type: "button", class: "model", on: { click: () => open(subject.name) } }, named(subject.name || "–"))),
      h("td", { class: "number" }, count(subject.size)), h("td", { class: "number gained" }, count(subject.gained)), h("td", { class: "number lost" }, count(subject.lost)),
      h("td", { class: "number" }, changeText((subject.gained - subject.lost) / subject.size, true))],
  }));
}
