// Dialogs: everything about one model, one column, or one score.

import { columns, loadTests, measures, models, scoreOf, testOf } from "./board.js";
import { core } from "./data.js";
import { h, named, replace } from "./dom.js";
import { isMessage, messageText, t } from "./language.js";
import { adjustedText, changeText, count, factText, rangeText, rankText, scoreText } from "./numbers.js";
import { factName, factTable, flat, modelName, roleName, testName, verdict } from "./parts.js";
import { choose, measureName, reference, state } from "./state.js";

let dialog = null;

function show(title, ...content) {
  dialog = dialog ?? document.body.appendChild(h("dialog", { "aria-labelledby": "dialog-title" }));
  replace(dialog,
    h("div", { class: "dialog-head" }, h("h2", { id: "dialog-title" }, title),
      h("button", { type: "button", on: { click: () => dialog.close() } }, t("close"))),
    ...content);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function go(changes, text) {
  return h("button", { type: "button", on: { click: () => { dialog.close(); choose(changes); } } }, text);
}

export function showModel(number) {
  const model = models[number];
  const rows = [
    [t("role"), roleName(model.role)],
    [t("made_from"), model.parent === null ? "–" : modelName(model.parent)],
    [t("scored_by"), model.tool],
    [t("key"), model.key],
    ...Object.entries(model.facts).flatMap(([name, value]) => (value !== null && typeof value === "object" && !isMessage(value)
      ? flat(value, name) : [[factName(name), isMessage(value) ? messageText(value) : factText(name, value)]])),
    [t("runs"), model.sources.join(", ")],
  ];
  const scored = measures.map((measure) => [measure, scoreOf(number, measure)]).filter(([, score]) => score);
  show(modelName(number),
    model.failure ? h("p", { class: "warn failed" }, t("failed", { reason: model.failure })) : null,
    model.remarks.map((remark) => h("p", { class: "warn" }, named(messageText(remark)))),
    h("p", { class: "actions" },
      go({ view: "pair", a: models[reference()].key, b: model.key }, t("compare_with_reference")),
      go({ reference: model.key }, t("make_reference")),
      model.sources.length ? go({ view: "provenance", source: model.sources[0] }, t("provenance")) : null,
      model.leaks.length ? go({ view: "contamination" }, t("contamination")) : null),
    factTable(rows, t("facts")),
    h("table", { class: "facts" }, h("caption", {}, t("scores")), h("tbody", {}, scored.map(([measure, score]) => h("tr", {},
      h("th", { scope: "row" }, named(measureName(measure))),
      h("td", {}, `${scoreText(score.value, measure.share)} (${rangeText(score.low, score.high, measure.share)}) `, rankText(score), score.apart ? ` · ${messageText(score.apart)}` : ""))))));
}

export function showMeasure(measure) {
  if (measure.isMean) {
    show(measureName(measure), h("p", {}, t("mean_of", { n: measure.mean.columns.length })),
      h("ul", {}, measure.mean.columns.map((number) => h("li", {}, named(columns[number].label)))),
      measure.mean.left_out.length ? [h("p", {}, t("left_out")), h("ul", {}, measure.mean.left_out.map(([number, why]) =>
        h("li", {}, named(columns[number].label), ": ", named(messageText(why)))))] : null);
    return;
  }
  const column = measure.column;
  show(named(column.label), factTable([
    [t("benchmark"), column.benchmark], [t("language"), column.language], [t("metric"), column.metric],
    [t("protocol"), column.protocol], [t("shots"), String(column.num_fewshot)],
    [t("items"), itemsText(column)], [t("average"), column.average],
    [t("chance"), scoreText(column.chance, column.is_share)], [t("majority"), scoreText(column.majority, column.is_share)],
    [t("direction"), column.lower_is_better ? t("lower_is_better") : t("higher_is_better")],
    [t("rule"), column.rule], [t("prompts"), column.prompts], [t("key"), column.key],
  ]));
}

export function itemsText(column) {
  return column.num_items === column.num_total ? count(column.num_items) : t("of", { n: count(column.num_items), total: count(column.num_total) });
}

export async function showScore(number, measure) {
  const score = scoreOf(number, measure, state.means !== "raw");
  if (!score) return;
  const tests = await loadTests();
  const details = measure.isMean || !tests ? {} : tests.details[score.number];
  const source = measure.isMean ? null : core.sources[score.source];
  show(h("span", {}, modelName(number), " · ", named(measureName(measure))),
    factTable([
      [t("score"), `${scoreText(score.value, measure.share)} (${rangeText(score.low, score.high, measure.share)})`],
      [t("rank"), score.apart ? t("apart", { why: messageText(score.apart) }) : `${rankText(score)} ${score.letters ?? ""}`],
      ...(measure.isMean ? [[t("raw"), scoreText(score.raw, true)], [t("normalized"), scoreText(score.normalized, true)]]
        : [[t("items"), t("of", { n: count(score.items), total: count(measure.column.num_total) })]]),
      ...detailRows(details, measure),
      ...testRows(number, measure),
      ...(source ? [[t("run"), source]] : []),
    ]),
    h("p", { class: "actions" }, source ? go({ view: "provenance", source }, t("provenance")) : null,
      go({ view: "pair", a: models[reference()].key, b: models[number].key, ...(measure.isMean ? {} : { column: measure.column.key }) }, t("compare_with_reference"))));
}

function testRows(number, measure) {
  const test = testOf(reference(), number, measure);
  if (!test) return [];
  return [
    [t("against", { name: models[reference()].name }), h("span", {}, `${changeText(test.value, measure.share)} (${rangeText(test.low, test.high, measure.share, true)}) `, verdict(test.verdict))],
    ...(isOfSome(test, number, measure) ? [[t("compared_items"), t("of_both", { n: count(test.num_pairs) })]] : []),
    [t("adjusted_p"), `${adjustedText(test)} · ${testName(test.test)} · ${t("family_of", { n: count(test.family) })}`],
    [t("detectable"), test.detectable === null ? t("nothing_detectable") : changeText(test.detectable, measure.share)],
    ...(test.problem ? [[t("problem"), messageText(test.problem)]] : []),
  ];
}

// Whether the test is of fewer items than the two scores are.
function isOfSome(test, number, measure) {
  return !measure.isMean && test.num_pairs > 0 && [number, reference()].some((model) => scoreOf(model, measure)?.items > test.num_pairs);
}

// From which share of generated texts nothing was extracted, and how they end badly; shares of 0 are left out.
function textsText({ texts, length, in_thought, thought_cut, unextracted }) {
  const share = (key, n) => n ? t(key, { share: `${(100 * n / texts).toFixed(1)}%` }) : "";
  return [
    t("texts_count", { n: count(texts) }),
    share("unextracted", unextracted),
    share("cut_at_limit", length),
    share("in_thought", in_thought),
    share("thought_cut", thought_cut),
  ].filter(Boolean).join(" · ");
}

function detailRows(details, measure) {
  const share = (value) => scoreText(value, measure.share);
  const total = Object.values(details.letters ?? {}).reduce((sum, n) => sum + n, 0);
  return [
    details.stderr ? [t("stderr"), measure.share ? (100 * details.stderr).toFixed(2) : String(details.stderr)] : null,
    details.note ? [t("note"), messageText(details.note)] : null,
    details.item_score ? [t("item_score"), messageText(details.item_score)] : null,
    details.dropped ? [t("dropped"), String(details.dropped)] : null,
    details.num_samples ? [t("num_samples"), count(details.num_samples)] : null,
    details.texts ? [t("texts"), textsText(details.texts)] : null,
    details.too_long ? [t("too_long"), t("too_long_counts", { cut: details.too_long[0], skipped: details.too_long[1] })] : null,
    total ? [t("answer_letters"), Object.entries(details.letters).map(([letter, n]) => `${letter} ${(100 * n / total).toFixed(0)}%`).join(" · ")] : null,
    ...Object.entries(details.groups ?? {}).map(([name, [value, n]]) => [name, `${share(value)} · ${count(n)}`]),
    ...Object.entries(details.further ?? {}).map(([name, [isShare, value, low, high]]) => [name, `${scoreText(value, isShare)}${low === undefined ? "" : ` (${rangeText(low, high, isShare)})`}`]),
    details.prompts ? [t("prompts"), details.prompts] : null,
  ].filter(Boolean);
}
