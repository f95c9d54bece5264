// What the reader has chosen: kept in the address, so that a link shows the same view.

import { core } from "./data.js";
import { columns, measures, models } from "./board.js";
import { messageText, t } from "./language.js";

const DEFAULTS = {
  view: "scores", reference: "", a: "", b: "", measure: "", column: "", source: "", words: "", language: "", labels: "",
  show: "scores", below: "ranks", means: "", sort: "", subject: "", kind: "changed", find: "", heat: "scores",
  cost: "", curve: "",
};

export const state = { ...DEFAULTS };
export const factFilters = {};

const listeners = [];

export function onChange(listener) {
  listeners.push(listener);
}

// Changes what is chosen; `quiet` keeps the view as it is, where it has shown the change itself.
export function choose(changes, quiet = false) {
  Object.assign(state, changes);
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (name !== "view" && value !== DEFAULTS[name]) query.set(name, value);
  }
  const text = query.toString();
  try {
    history.replaceState(null, "", `#${state.view}${text ? `?${text}` : ""}`);
  } catch { /* some places forbid it for files */ }
  if (!quiet) listeners.forEach((listener) => listener(changes));
}

export function readAddress() {
  const [view, query] = location.hash.slice(1).split("?");
  Object.assign(state, DEFAULTS, view ? { view } : {});
  for (const [name, value] of new URLSearchParams(query ?? "")) if (name in DEFAULTS) state[name] = value;
}

function modelNumber(key, fallback) {
  const number = models.findIndex((model) => model.key === key);
  return number < 0 ? fallback : number;
}

export function reference() {
  return modelNumber(state.reference, core.reference);
}

export function pair() {
  const a = modelNumber(state.a, reference());
  return [a, modelNumber(state.b, models.findIndex((model, number) => number !== a && !model.failure))];
}

export function chosenMeasure() {
  const wanted = measures.find((measure) => measureKey(measure) === state.measure);
  return wanted ?? measures.find((measure) => measure.isMean && measure.label === "all") ?? measures[columns.length] ?? measures[0];
}

export function measureKey(measure) {
  return measure.isMean ? `mean:${measure.label}` : measure.column.key;
}

export function measureName(measure) {
  return measure.isMean ? `${t("mean")} ${languageName(measure.label)}` : measure.label;
}

export function languageName(code) {
  return { zh: t("chinese"), en: t("english"), all: t("all_languages") }[code] ?? code;
}

// Numbers of the models that pass the filters.
export function visibleModels() {
  const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
  return models.map((_, number) => number).filter((number) => words.every((word) => searchText(number).includes(word))
    && Object.entries(factFilters).every(([name, value]) => !value || facet(number, name) === value));
}

export function facet(number, name) {
  const model = models[number];
  const value = name in model && name !== "facts" ? model[name] : model.facts[name];
  return value === undefined || value === null ? "" : String(value);
}

const texts = [];

function searchText(number) {
  const model = models[number];
  texts[number] = texts[number] ?? [model.name, model.role, model.tool, ...model.sources, ...model.remarks.map(messageText),
    ...Object.entries(model.facts).map(([name, value]) => `${name}=${value}`)].join(" ").toLowerCase();
  return texts[number];
}

function columnText(column) {
  return [column.label, column.benchmark, column.metric, column.protocol].join(" ").toLowerCase();
}

export function visibleMeasures() {
  const words = state.labels.toLowerCase().split(/\s+/).filter(Boolean);
  return measures.filter((measure) => (!state.language || measure.language === state.language || (measure.isMean && measure.label === "all"))
    && (measure.isMean || !words.length || words.some((word) => columnText(measure.column).includes(word))));
}
