// Puts the page together: views, switches, filters.

import { columns, models } from "./board.js";
import { contaminationView } from "./contamination.js";
import { costView, knownCosts } from "./cost.js";
import { canUnpack, chunkIndex, core } from "./data.js";
import { decisionsView } from "./decisions.js";
import { h, named, replace, select } from "./dom.js";
import { forestView } from "./forest.js";
import { forgettingView, seedsView } from "./forgetting.js";
import { narrow } from "./grid.js";
import { language, messageText, setLanguage, store, stored, t } from "./language.js";
import { count } from "./numbers.js";
import { pairView } from "./pair.js";
import { factName, modelOptions, roleName } from "./parts.js";
import { provenanceView } from "./provenance.js";
import { scoresView } from "./scores.js";
import { choose, facet, factFilters, languageName, onChange, readAddress, reference, state } from "./state.js";
import { subjectsView } from "./subjects.js";
import { trainingView } from "./training.js";

const VIEWS = {
  scores: scoresView, differences: forestView, pair: pairView, subjects: subjectsView, forgetting: forgettingView,
  seeds: seedsView, decisions: decisionsView, cost: costView, training: trainingView, contamination: contaminationView, provenance: provenanceView,
};
const FACETS = ["role", "quantization", "dtype", "method", "rank", "learning_rate", "seed", "tool"];
const FILTERED = ["scores", "differences", "subjects", "cost", "training"];
const byId = (id) => document.getElementById(id);

function offered() {
  const skips = { cost: !knownCosts().length, training: !models.some((model) => model.curves), pair: models.length < 2, decisions: !core.has_decisions };
  return Object.keys(VIEWS).filter((view) => !skips[view]);
}

function drawViews() {
  replace(byId("views"), h("ul", {}, offered().map((view) => h("li", {}, h("a", {
    href: `#${view}`, "aria-current": view === state.view ? "page" : null,
    on: { click: (event) => { event.preventDefault(); choose({ view }); } },
  }, t(view))))));
  const list = byId("views").firstChild, current = list.querySelector("[aria-current]");
  if (current) list.scrollLeft = current.offsetLeft - list.offsetLeft - 60;
}

function drawSwitches() {
  const theme = byId("theme"), other = byId("language");
  theme.textContent = t(`theme_${document.documentElement.dataset.theme ?? "auto"}`);
  other.textContent = language() === "zh" ? "English" : "中文";
  other.lang = language() === "zh" ? "en" : "zh-Hans";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  document.title = document.querySelector("h1").textContent = messageText(core.title);
  const scored = core.cells.reduce((sum, cell) => sum + (cell[5] ?? 0), 0);
  byId("summary").textContent = t("summary", { models: count(models.length), columns: count(columns.length), answers: count(scored) });
  byId("views").setAttribute("aria-label", t("views"));
}

function facets() {
  return FACETS.map((name) => [name, [...new Set(models.map((_, number) => facet(number, name)))].filter(Boolean)])
    .filter(([, values]) => values.length > 1 && values.length <= 40);
}

function drawControls() {
  const root = byId("controls"), languages = [...new Set(columns.map((column) => column.language))];
  const filters = facets().map(([name, values]) => select(factName(name), [["", t("every")], ...values.map((value) => [value, name === "role" ? roleName(value) : value])],
    factFilters[name] ?? "", (value) => { factFilters[name] = value; choose({}); }));
  replace(root, h("form", { role: "search", on: { submit: (event) => event.preventDefault() } },
    h("label", { class: "filter" }, h("span", {}, t("find")), h("input", { id: "find", type: "search", value: state.words, autocomplete: "off", placeholder: t("find_hint"), on: { input: (event) => choose({ words: event.target.value }) } })),
    select(t("reference"), modelOptions(models.map((_, number) => number)), models[reference()]?.key, (value) => choose({ reference: value }), { class: "wide" }),
    h("details", { class: "options", open: matchMedia("(min-width: 641px)").matches }, h("summary", {}, t("options")), h("div", { class: "pickers" },
    languages.length > 1 ? select(t("language"), [["", t("every")], ...languages.map((code) => [code, languageName(code)])], state.language, (value) => choose({ language: value }), { class: "matrix" }) : null,
    h("label", { class: "matrix" }, h("span", {}, t("labels")), h("input", { type: "search", size: 14, value: state.labels, autocomplete: "off", placeholder: t("labels_hint"), on: { input: (event) => choose({ labels: event.target.value }) } })),
    select(t("show"), [["scores", t("scores")], ["differences", t("from_reference")]], state.show, (value) => choose({ show: value }), { class: "matrix" }),
    select(t("below"), ["ranks", "intervals", "items", "nothing"].map((name) => [name, t(`below_${name}`)]), state.below, (value) => choose({ below: value }), { class: "matrix" }),
    select(t("means"), [["", t("normalized")], ["raw", t("raw")]], state.means, (value) => choose({ means: value }), { class: "means" }),
    filters.map((filter) => { filter.classList.add("filter"); return filter; })))));
}

function drawNotices() {
  const notices = core.alarms.map((alarm) => h("p", { class: "alarm", role: "alert" }, h("b", {}, `${t("alarm")} `), named(messageText(alarm))));
  if (!canUnpack) notices.push(h("p", { class: "alarm" }, t("no_unpacking")));
  if (core.skipped.length) notices.push(h("p", { class: "note" }, t("skipped_files", { n: core.skipped.length }), " ", h("a", { href: "#provenance", on: { click: (event) => { event.preventDefault(); choose({ view: "provenance" }); byId("skipped")?.scrollIntoView(); } } }, t("see"))));
  replace(byId("notices"), ...notices);
}

async function drawDropped() {
  const { dropped } = await chunkIndex();
  const names = new Set(dropped.map((name) => name.split("-")[0]));
  if (names.size) byId("notices").append(h("p", { class: "note" }, t("dropped_note", { kinds: [...names].map((name) => t(`chunk_${name}`)).join(", ") })));
}

function draw() {
  if (!(state.view in VIEWS)) state.view = "scores";
  document.documentElement.dataset.view = state.view;
  document.documentElement.dataset.filtered = FILTERED.includes(state.view) ? "yes" : "no";
  drawViews();
  const root = byId("content");
  if (!models.length) replace(root, h("p", {}, t("nothing")));
  else VIEWS[state.view](root);
}

function drawAll() {
  drawSwitches();
  drawControls();
  drawNotices();
  draw();
  drawDropped();
}

function switchTheme() {
  const themes = ["auto", "light", "dark"], now = document.documentElement.dataset.theme ?? "auto";
  applyTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
}

function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  store("theme", theme);
  drawSwitches();
}

function start() {
  setLanguage(stored("language") ?? (navigator.language?.startsWith("zh") ? "zh" : "en"));
  const theme = stored("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  readAddress();
  for (const id of ["views", "controls", "switches"]) byId(id).hidden = false;
  byId("theme").addEventListener("click", switchTheme);
  byId("language").addEventListener("click", () => {
    setLanguage(language() === "zh" ? "en" : "zh");
    store("language", language());
    drawAll();
  });
  onChange((changes) => {
    if ("reference" in changes) drawControls();
    draw();
    if ("view" in changes) byId("content").focus({ preventScroll: true });
  });
  narrow.addEventListener("change", draw);
  addEventListener("hashchange", () => { readAddress(); drawControls(); draw(); });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { event.preventDefault(); byId("find").focus(); }
  });
  addEventListener("beforeprint", () => document.querySelectorAll(".scroll").forEach((box) => box.drawAll?.()));
  addEventListener("afterprint", () => document.querySelectorAll(".scroll").forEach((box) => box.drawWindow?.()));
  drawAll();
}

start();
