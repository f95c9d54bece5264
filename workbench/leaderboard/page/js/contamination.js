// Benchmark items that were found in a model's training rows.

import { loadTests, measures, models, scoreOf } from "./board.js";
import { h, named, replace } from "./dom.js";
import { columnAnswers, columnItems } from "./items.js";
import { t } from "./language.js";
import { count, scoreText } from "./numbers.js";
import { modelName, note } from "./parts.js";
import { state } from "./state.js";

export async function contaminationView(root) {
  replace(root, h("h2", {}, t("contamination")), h("p", {}, t("unpacking")));
  const tests = await loadTests();
  if (state.view !== "contamination") return;
  const checked = models.map((_, number) => number).filter((number) => Object.keys(tests?.contamination[number] ?? {}).length);
  replace(root, h("h2", {}, t("contamination")), note(t("contamination_note")),
    checked.length ? checked.map((number) => leaks(number, tests.contamination[number])) : h("p", {}, t("no_contamination")));
}

function leaks(number, byBenchmark) {
  return h("section", {}, h("h3", {}, modelName(number)), Object.entries(byBenchmark).map(([benchmark, leak]) => {
    const measure = measures.find((one) => !one.isMean && one.column.benchmark === benchmark);
    const body = h("div"), details = h("details", {}, h("summary", {}, named(benchmark), ": ", summary(leak, measure, number)), body);
    details.addEventListener("toggle", async () => {
      if (details.open && !body.hasChildNodes()) replace(body, foundItems(leak, await questionsOf(measure)));
    });
    return details;
  }));
}

function summary(leak, measure, number) {
  const clean = measure && leak.clean?.[measure.column.metric], score = measure && scoreOf(number, measure);
  return [t("leaks_of", { n: count(leak.num_found), total: count(leak.num_items) }),
    clean && score ? ` · ${t("clean_score", { clean: scoreText(clean.value, measure.share), whole: scoreText(score.value, measure.share) })}` : "",
    leak.num_short ? ` · ${t("short_items", { n: count(leak.num_short) })}` : ""];
}

// Questions of a column by id, as far as the page carries them.
async function questionsOf(measure) {
  const items = measure && await columnItems(measure.number);
  if (!items) return new Map();
  const { questions } = await columnAnswers(measure.number);
  return new Map([...questions].map(([item, { question }]) => [items.ids[item], question]));
}

function foundItems(leak, questions) {
  if (!leak.found.length) return h("p", { class: "note" }, t("nothing"));
  const kind = (name) => (t(`leak_${name}`) === `leak_${name}` ? String(name ?? "–") : t(`leak_${name}`));
  return h("div", { class: "scroll" }, h("table", { class: "facts found" }, h("caption", {}, t("found_pairs")),
    h("thead", {}, h("tr", {}, ["item", "training_row", "kind", "share", "longest_run"].map((name) => h("th", { scope: "col" }, t(name))))),
    h("tbody", {}, leak.found.map((one) => h("tr", {},
      h("td", {}, h("code", {}, named(String(one.id ?? "–"))), questions.has(one.id) ? h("div", { class: "text", dir: "auto" }, questions.get(one.id)) : null),
      h("td", {}, named(String(one.row ?? "–"))), h("td", {}, kind(one.kind)), h("td", { class: "number" }, scoreText(one.share, true)), h("td", { class: "number" }, String(one.longest ?? "–")))))));
}
