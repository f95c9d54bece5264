// Pairs of models that were asked items until their difference was decided: how each comparison was stopped.

import { loadTests } from "./board.js";
import { h, named, replace } from "./dom.js";
import { grid } from "./grid.js";
import { t } from "./language.js";
import { changeText, count, precise } from "./numbers.js";
import { modelName, note, verdict, verdictOf } from "./parts.js";
import { state } from "./state.js";

export async function decisionsView(root) {
  replace(root, h("h2", {}, t("decisions")), h("p", {}, t("unpacking")));
  const tests = await loadTests();
  if (state.view !== "decisions") return;
  replace(root, h("h2", {}, t("decisions")), note(t("decisions_note")), tests?.decisions.length ? decisionTable(tests.decisions) : h("p", {}, t("nothing")));
}

function decisionTable(list) {
  return grid({
    caption: t("decisions"), className: "pair", rows: list, height: 54, stacked: true,
    head: [[h("th", { scope: "col", class: "name" }, t("benchmark")), h("th", { scope: "col" }, t("model")), h("th", { scope: "col" }, t("stopped")),
      h("th", { scope: "col" }, t("second_is")), h("th", { scope: "col", class: "number" }, t("difference_so_far")), h("th", { scope: "col" }, t("run"))]],
    row: (decision) => [
      h("th", { scope: "row", class: "name" }, named(decision.benchmark), h("span", { class: "below" }, decision.metric)),
      h("td", { class: "parent" }, h("div", {}, "A: ", side(decision.first, decision.first_name)), h("div", {}, "B: ", side(decision.second, decision.second_name))),
      h("td", { class: "told" }, stopped(decision), h("span", { class: "below" }, rule(decision))),
      h("td", { class: "judged" }, judged(decision.verdict)),
      h("td", { class: "number difference" }, changeText(decision.difference, true)),
      h("td", { class: "first-fact" }, named(decision.source)),
    ],
  });
}

function side(number, name) {
  return number === null ? named(name) : modelName(number);
}

function stopped({ verdict: found, num_decided: decided, num_asked: asked, num_total: total }) {
  if (found === "undecided") return t("stopped_undecided", { n: count(asked), total: count(total) });
  return t("stopped_decided", { n: count(decided), asked: count(asked), total: count(total) });
}

// The error rate, the margin and the seed that the comparison was made with.
function rule({ alpha, margin, seed }) {
  return [t("error_rate", { alpha: `${precise(100 * alpha)}%` }), margin === null ? t("no_margin") : t("margin_of", { n: precise(100 * margin) }), t("order_seed", { seed })].join(" · ");
}

function judged(words) {
  const kind = verdictOf(words);
  if (kind) return verdict(kind);
  return h("span", { class: "verdict outside" }, words === "undecided" ? t("undecided") : t("within_margin"));
}
