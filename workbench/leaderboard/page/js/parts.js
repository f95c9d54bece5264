// Pieces that several views show: names, verdicts, facts.

import { models } from "./board.js";
import { h, named } from "./dom.js";
import { t } from "./language.js";
import { factText } from "./numbers.js";

const SIGNS = { better: "▲", worse: "▼", unsure: "◦", untested: "–" };
const CHIPS = ["quantization", "rank", "learning_rate", "seed"];
const SHORT = { rank: "r", learning_rate: "lr ", seed: "seed " };

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
    .map((name) => `${SHORT[name] ?? ""}${factText(name, model.facts[name])}`)
    .filter((text) => !model.name.toLowerCase().includes(text.toLowerCase()));
  return found.map((text) => h("span", { class: "chip" }, text));
}

export function roleName(role) {
  const text = t(`role_${role}`);
  return text.startsWith("role_") ? role : text;
}

export function factName(name) {
  const text = t(`fact_${name}`);
  return text.startsWith("fact_") ? name.replaceAll("_", " ") : text;
}

const APART = [
  [/^([\d,]+) of ([\d,]+) items$/, "apart_fewer"], [/^([\d,]+) of ([\d,]+) items asked alike$/, "apart_alike"],
  [/^other prompts$/, "apart_prompts"], [/^the same items in another order$/, "apart_order"], [/^untrained head$/, "apart_head"],
];

// Why a score is set apart, in the reader's language.
export function apartText(why) {
  for (const [pattern, name] of APART) {
    const found = pattern.exec(why);
    if (found) return t(name, { n: found[1], total: found[2] });
  }
  return why;
}

// Marks of a row: contamination, remarks, failure.
export function warnings(number) {
  const model = models[number];
  return [
    model.leaks.length ? h("span", { class: "warn leak", title: t("leak_title", { names: model.leaks.join(", ") }) }, t("leak_mark")) : null,
    model.remarks.length ? h("span", { class: "warn", title: model.remarks.join("\n") }, t("remark_mark")) : null,
    model.failure ? h("span", { class: "warn failed", title: model.failure }, t("failed_mark")) : null,
  ];
}

// Nested values as rows of a table: dotted name and text.
export function flat(value, prefix = "") {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([name, inner]) => flat(inner, prefix ? `${prefix}.${name}` : name));
  }
  const text = value === null || value === undefined ? "–"
    : Array.isArray(value) ? value.map((inner) => (typeof inner === "object" ? JSON.stringify(inner) : inner)).join(", ")
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
