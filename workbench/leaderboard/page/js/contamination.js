// Benchmark items that were found in a model's training rows.

import { loadTests, measures, models, scoreOf } from "./board.js";
import { h, named, replace } from "./dom.js";
import { t } from "./language.js";
import { count, scoreText } from "./numbers.js";
import { modelName, note } from "./parts.js";
import { state } from "./state.js";

const MOST_PAIRS = 50;

export async function contaminationView(root) {
  replace(root, h("h2", {}, t("contamination")), h("p", {}, t("unpacking")));
  const tests = await loadTests();
  if (state.view !== "contamination") return;
  const marked = models.map((_, number) => number).filter((number) => models[number].leaks.length);
  replace(root, h("h2", {}, t("contamination")), note(t("contamination_note")),
    marked.length ? marked.map((number) => leaks(number, tests?.facts[number].contamination ?? {})) : h("p", {}, t("no_contamination")));
}

function leaks(number, byBenchmark) {
  return h("section", {}, h("h3", {}, modelName(number)), Object.entries(byBenchmark).map(([benchmark, found]) => {
    const measure = measures.find((one) => !one.isMean && one.column.benchmark === benchmark);
    const score = measure && scoreOf(number, measure);
    return h("details", {}, h("summary", {}, named(benchmark), ": ", t("leaks_of", { n: count(found?.num_found), total: count(found?.num_items) }),
      Number.isFinite(found?.clean_value) ? ` · ${t("clean_score", { clean: scoreText(found.clean_value, measure?.share ?? true), whole: scoreText(score?.value, measure?.share ?? true) })}` : "",
      Number.isFinite(found?.precision) ? ` · ${t("precision", { n: (100 * found.precision).toFixed(0) })}` : ""),
    pairs(Array.isArray(found?.found) ? found.found : []));
  }));
}

function pairs(found) {
  if (!found.length) return null;
  return h("table", { class: "facts" }, h("caption", {}, t("found_pairs")), h("thead", {}, h("tr", {}, ["item", "training_row", "kind", "text"].map((name) => h("th", { scope: "col" }, t(name))))),
    h("tbody", {}, found.slice(0, MOST_PAIRS).map((one) => h("tr", {}, [one.item, one.row, one.kind, one.text].map((text) => h("td", {}, named(String(text ?? "–"))))))));
}
