// Where every number is from, and what was left out.

import { loadTests, models } from "./board.js";
import { core } from "./data.js";
import { h, named, replace, select } from "./dom.js";
import { messageText, t } from "./language.js";
import { factTable, flat, modelName, note } from "./parts.js";
import { choose, state } from "./state.js";

export async function provenanceView(root) {
  const names = core.sources, source = names.includes(state.source) ? state.source : names[0];
  const body = h("div", {}, h("p", {}, t("unpacking")));
  replace(root, h("h2", {}, t("provenance")), note(t("provenance_note")),
    names.length ? h("div", { class: "pickers" }, select(t("run"), names.map((name) => [name, name]), source, (value) => choose({ source: value }))) : null, body, skippedFiles());
  const tests = await loadTests();
  replace(body, source === undefined ? null : record(source, tests?.provenance[source]));
}

function record(source, values) {
  const made = models.map((_, number) => number).filter((number) => models[number].sources.includes(source));
  const { command, ...rest } = values ?? {};
  return h("section", { "aria-label": source },
    made.length ? h("p", {}, `${t("models_of_run")}: `, made.map((number, place) => [place ? ", " : "", modelName(number)])) : null,
    command ? h("pre", {}, h("code", {}, Array.isArray(command) ? command.join(" ") : String(command))) : null,
    Object.entries(rest).map(([name, value]) => (value !== null && typeof value === "object"
      ? h("details", { open: name !== "config" }, h("summary", {}, t(`record_${name}`).startsWith("record_") ? named(name) : t(`record_${name}`)), factTable(flat(value), "", name))
      : factTable([[t(`record_${name}`).startsWith("record_") ? name : t(`record_${name}`), String(value ?? "–")]]))),
    values ? null : h("p", {}, t("no_record")));
}

function skippedFiles() {
  if (!core.skipped.length) return null;
  return h("section", { id: "skipped" }, h("h3", {}, t("skipped")), factTable(core.skipped.map(([path, reason]) => [path, messageText(reason)]), "", t("skipped")));
}
