// Pieces that several views show: names, verdicts, facts.

import { models } from "./board.js";
import { h, named } from "./dom.js";
import { isMessage, messageText, t } from "./language.js";
import { factText } from "./numbers.js";

const SIGNS = { better: "▲", worse: "▼", unsure: "◦", untested: "–" };
const CHIPS = ["quantization", "rank", "learning_rate", "seed"];
const NAMED = { rank: "r", learning_rate: "lr ", seed: "seed " };

function verdictText(verdict) {
  return t(`verdict_${verdict}`);
}

// A verdict of the board from its words, as in the forgetting and seeds tables.
export function verdictOf(words) {
  return { better: "better", worse: "worse", "no difference shown": "unsure", "not tested": "untested" }[words] ?? null;
}

export function verdict(kind, text) {
  return h("span", { class: `verdict ${kind}` }, h("span", { "aria-hidden": "true" }, `${SIGNS[kind]} `), text ?? verdictText(kind));
}

export function sign(kind) {
  return h("span", { class: `sign ${kind}`, role: "img", "aria-label": verdictText(kind) }, SIGNS[kind]);
}

export function modelName(number) {
  return named(models[number]?.name ?? "–");
}

// Facts that tell a model from others, as far as its name doesn't say them.
export function chips(number) {
  const model = models[number];
  const found = CHIPS.filter((name) => model.facts[name] !== undefined && model.facts[name] !== null && model.facts[name] !== "none")
    .filter((name) => !model.name.toLowerCase().includes(`${NAMED[name] ?? ""}${factText(name, model.facts[name])}`.toLowerCase()));
  return found.map((name) => h("span", { class: "chip" }, t(`chip_${name}`, { value: factText(name, model.facts[name]) })));
}

export function roleName(role) {
  const text = t(`role_${role}`);
  return text.startsWith("role_") ? role : text;
}

// Name of a test of the board.
export function testName(test) {
  const name = `by_${test.replaceAll("-", "_")}`, text = t(name);
  return text === name ? test : text;
}

export function factName(name) {
  const text = t(`fact_${name}`);
  return text.startsWith("fact_") ? name.replaceAll("_", " ") : text;
}

// Marks of a row: contamination, remarks, failure.
export function warnings(number) {
  const model = models[number];
  return [
    model.leaks.length ? h("span", { class: "warn leak", title: t("leak_title", { names: model.leaks.join(", ") }) }, t("leak_mark")) : null,
    model.remarks.length ? h("span", { class: "warn", title: model.remarks.map(messageText).join("\n") }, t("remark_mark")) : null,
    model.failure ? h("span", { class: "warn failed", title: model.failure }, t("failed_mark")) : null,
  ];
}

// Nested values as rows of a table: dotted name and text.
export function flat(value, prefix = "") {
  if (isMessage(value)) return [[prefix, messageText(value)]];
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([name, inner]) => flat(inner, prefix ? `${prefix}.${name}` : name));
  }
  const text = value === null || value === undefined ? "–"
    : Array.isArray(value) ? value.map((inner) => (isMessage(inner) ? messageText(inner) : typeof inner === "object" ? JSON.stringify(inner) : inner)).join(", ")
      : factText(prefix.split(".").at(-1), value);
  return [[prefix, text]];
}

export function factTable(rows, caption, label = t("facts")) {
  return h("table", { class: "facts", "aria-label": caption ? null : label }, caption ? h("caption", {}, caption) : null, h("tbody", {},
    rows.map(([name, text]) => h("tr", {}, h("th", { scope: "row" }, named(name)), h("td", {}, text instanceof Node ? text : named(text))))));
}

export function note(...children) {
  return h("p", { class: "note" }, ...children);
}

export function modelOptions(numbers) {
  return numbers.map((number) => [models[number].key, models[number].name.slice(0, 80)]);
}
