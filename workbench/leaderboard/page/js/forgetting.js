// What trained models lost against their parents, and recipes with several seeds.

import { columns, loadTests, measures } from "./board.js";
import { scale, strip, stripAxis } from "./chart.js";
import { h, named, replace } from "./dom.js";
import { grid } from "./grid.js";
import { t } from "./language.js";
import { changeText, pText, precise, rangeText, scoreText } from "./numbers.js";
import { modelName, note, verdict, verdictOf } from "./parts.js";
import { state } from "./state.js";

export async function forgettingView(root) {
  replace(root, h("h2", {}, t("forgetting")), h("p", {}, t("unpacking")));
  const tests = await loadTests();
  if (state.view !== "forgetting") return;
  replace(root, h("h2", {}, t("forgetting")), note(t("forgetting_note")),
    tests?.forgetting.length ? losses(tests.forgetting) : h("p", {}, t("no_forgetting")));
}

function losses(list) {
  const axis = scale(list.flatMap((loss) => [loss.value, loss.low, loss.high]), true);
  return grid({
    caption: t("forgetting"), className: "forest", rows: list, height: 44, stacked: true,
    head: [[h("th", { scope: "col", class: "name" }, t("model")), h("th", { scope: "col" }, t("made_from")), h("th", { scope: "col", class: "number" }, t("difference")),
      h("th", { scope: "col", class: "plotted" }, h("span", { class: "unseen" }, t("interval")), stripAxis(axis, (mark) => changeText(mark, true))), h("th", { scope: "col" }, t("verdict")), h("th", { scope: "col", class: "number" }, t("p")), h("th", { scope: "col", class: "number" }, t("columns"))]],
    row: (loss) => [h("th", { scope: "row", class: "name" }, modelName(loss.model)), h("td", { class: "parent", "data-label": t("made_from") }, modelName(loss.parent)),
      h("td", { class: "number difference" }, h("span", { class: "value" }, changeText(loss.value, true)), h("span", { class: "below" }, rangeText(loss.low, loss.high, true, true))),
      h("td", { class: "plotted" }, strip(axis, loss.value, loss.low, loss.high, verdictOf(loss.verdict) ?? "outside")),
      h("td", { class: "judged" }, said(loss.verdict)), h("td", { class: "number first-fact", "data-label": t("p") }, pText(loss.p_adjusted === null ? null : Math.log(loss.p_adjusted))),
      h("td", { class: "number second-fact", "data-label": t("columns"), title: loss.columns.map((number) => columns[number].label).join(", ") }, String(loss.columns.length))],
  });
}

function said(words) {
  const kind = verdictOf(words);
  return kind ? verdict(kind) : h("span", { class: "verdict outside" }, words === "descriptive" ? t("descriptive") : named(words));
}

export async function seedsView(root) {
  replace(root, h("h2", {}, t("seeds")), h("p", {}, t("unpacking")));
  const tests = await loadTests();
  if (state.view !== "seeds") return;
  replace(root, h("h2", {}, t("seeds")), note(t("seeds_note")), tests?.seeds.length ? seedTable(tests.seeds) : h("p", {}, t("no_seeds")));
}

function seedTable(list) {
  return grid({
    caption: t("seeds"), className: "pair", rows: list, height: 54,
    head: [[h("th", { scope: "col", class: "name" }, t("recipe")), h("th", { scope: "col" }, t("column")), h("th", { scope: "col", class: "number" }, t("score")),
      h("th", { scope: "col", class: "number" }, t("seed_error")), h("th", { scope: "col", class: "number" }, t("item_error")), h("th", { scope: "col" }, t("compared_with")), h("th", { scope: "col" }, t("checkpoints_verdict")), h("th", { scope: "col" }, t("recipe_verdict"))]],
    row: (group) => {
      const measure = measures[group.column], error = (value) => (value === null ? "–" : measure.share ? (100 * value).toFixed(2) : precise(value));
      return [h("th", { scope: "row", class: "name" }, named(group.name), h("span", { class: "below" }, t("n_seeds", { n: group.models.length }))), h("td", {}, named(measure.label)),
        h("td", { class: "number" }, h("span", { class: "value" }, scoreText(group.mean, measure.share)), h("span", { class: "below" }, rangeText(group.low, group.high, measure.share))),
        h("td", { class: "number" }, error(group.seed_stderr)), h("td", { class: "number" }, error(group.item_stderr)),
        h("td", {}, group.against === null ? "–" : modelName(group.against)), h("td", {}, said(group.checkpoints_verdict)), h("td", {}, said(group.recipe_verdict))];
    },
  });
}
