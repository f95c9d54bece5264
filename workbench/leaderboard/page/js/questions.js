// The questions of a column with the answers of two models: filtered, searched, a few at a time.

import { columns } from "./board.js";
import { announce, h, named, select } from "./dom.js";
import { itemScore } from "./items.js";
import { t } from "./language.js";
import { count, scoreText } from "./numbers.js";
import { modelName } from "./parts.js";
import { choose, state } from "./state.js";

const AT_ONCE = 20;
const NO_CHOICE = 255;

export function questionList(line, answers, a, b) {
  const list = h("ol", { class: "questions" }), summary = h("p", { class: "note" }), more = h("button", { type: "button" }, t("more"));
  const context = { line, answers, models: [a, b], rows: [line.a, line.b], column: columns[line.number] };
  let found = [], shown = 0;
  const append = () => {
    const next = found.slice(shown, shown + AT_ONCE);
    list.append(...next.map((item) => question(item, context)));
    shown += next.length;
    more.hidden = shown >= found.length;
  };
  const update = () => {
    found = matching(context);
    shown = 0;
    list.replaceChildren();
    summary.textContent = t("items_shown", { n: count(found.length), total: count(line.size) });
    announce(summary.textContent);
    append();
  };
  more.addEventListener("click", append);
  update();
  return h("section", { "aria-label": t("questions") }, controls(line, update), summary, notCarried(answers), list, more);
}

function controls(line, update) {
  const kinds = ["changed", "gained", "lost", "different", "all"].map((kind) => [kind, t(`kind_${kind}`)]);
  const change = (values) => { choose(values, true); update(); };
  const names = line.items.subsets.map((name) => [name, name || "–"]);
  return h("div", { class: "pickers" },
    select(t("show"), kinds, state.kind, (kind) => change({ kind })),
    names.length > 1 ? select(t("subject"), [["", t("every")], ...names], state.subject, (subject) => change({ subject })) : null,
    h("label", {}, h("span", {}, t("find")), h("input", { type: "search", value: state.find, autocomplete: "off", on: { input: (event) => change({ find: event.target.value }) } })));
}

function notCarried(answers) {
  return answers.questions.size ? null : h("p", { class: "note" }, t("in_parquet"));
}

function matching(context) {
  const { line, answers } = context;
  const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
  const subject = line.items.subsets.indexOf(state.subject);
  const found = [];
  for (let item = 0; item < line.size; item++) {
    if (subject >= 0 && line.items.subset[item] !== subject) continue;
    if (!isOfKind(state.kind, item, context)) continue;
    if (words.length && !words.every((word) => itemText(item, answers, context).includes(word))) continue;
    found.push(item);
  }
  return found;
}

function isOfKind(kind, item, { line, answers, rows }) {
  const sign = line.signs[item];
  if (kind === "gained") return sign > 0;
  if (kind === "lost") return sign < 0;
  if (kind === "changed") return sign !== 0;
  if (kind === "different") return sign !== 0 || answers.chosen(item, rows[0]) !== answers.chosen(item, rows[1]);
  return true;
}

function itemText(item, answers, { line, rows }) {
  const known = answers.questions.get(item);
  return [line.items.ids[item], known?.question, ...(known?.choices ?? []), ...(known?.targets ?? []), ...rows.map((row) => answers.text(item, row))].join("\n").toLowerCase();
}

function question(item, context) {
  const { line, answers, column, rows } = context;
  const known = answers.questions.get(item), sign = line.signs[item];
  const kind = sign > 0 ? "gained" : sign < 0 ? "lost" : "same";
  const subject = line.items.subsets[line.items.subset[item]];
  return h("li", { class: `question is-${kind}` },
    h("p", { class: "question-head" }, h("span", { class: `tag ${kind}` }, t(`item_${kind}`)), h("code", {}, named(line.items.ids[item])), subject && !line.items.ids[item].startsWith(subject) ? named(subject) : null),
    known ? h("div", { class: "text", lang: column.language, dir: "auto" }, known.question) : h("p", { class: "note" }, t("question_in_parquet")),
    known?.choices.length ? choices(item, known, context) : null,
    known && !known.choices.length ? h("p", {}, h("b", {}, `${t("target")} `), h("span", { class: "text", dir: "auto" }, known.targets.join(" / "))) : null,
    rows.map((row, side) => answer(item, row, side, context, known)));
}

function choices(item, known, { answers, column, rows }) {
  const chosen = rows.map((row) => answers.chosen(item, row)), likelihoods = rows.map((row) => answers.likelihoods(item, row));
  return h("ol", { class: "choices", lang: column.language }, known.choices.map((text, choice) => {
    const isRight = known.targets.includes(choice) || known.targets.includes(text);
    return h("li", { class: isRight ? "right" : "" }, h("span", { class: "text", dir: "auto" }, text),
      h("span", { class: "marks" }, isRight ? h("span", { class: "tag target" }, `✓ ${t("target")}`) : null,
        chosen.map((one, side) => (one === choice ? h("span", { class: `tag side-${side}` }, `◀ ${"AB"[side]}`) : null)),
        likelihoods.map((values, side) => (values ? h("span", { class: `tag side-${side} likelihood`, title: t("likelihood_title", { side: "AB"[side] }) }, values[choice] === null ? "–" : values[choice].toFixed(2).replace("-", "−")) : null))));
  }));
}

// What a model answered, in words where it wrote any, else how sure it was.
function answer(item, row, side, { line, answers, models: pairModels }, known) {
  const text = answers.text(item, row), margin = answers.margin(item, row), chosen = answers.chosen(item, row);
  const score = itemScore(line.items, item, row);
  const letter = chosen === null || chosen === NO_CHOICE ? null : String.fromCharCode(65 + chosen);
  return h("div", { class: `answer side-${side}` },
    h("p", {}, h("b", {}, `${"AB"[side]} `), modelName(pairModels[side]), ": ", h("span", { class: score > 0 ? "gained" : "lost" }, line.items.isBinary ? t(score > 0 ? "right" : "wrong") : scoreText(score, false)),
      letter && !known ? ` · ${letter}` : "", chosen === NO_CHOICE ? ` · ${t("no_choice")}` : "",
      margin === null ? "" : h("span", { class: "margin", title: t("margin_title") }, ` · ${t("margin", { n: `${margin >= 0 ? "+" : "−"}${Math.abs(margin).toFixed(1)}` })}`)),
    text ? h("div", { class: "text", dir: "auto" }, text) : !letter && chosen === null && !answers.hasTexts ? null : answers.hasTexts && chosen === null ? h("p", { class: "note" }, t("text_in_parquet")) : null);
}
