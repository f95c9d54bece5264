// The board: models, columns and means under one numbering of measures, scores, and tested differences.

import { chunk, core } from "./data.js";

export const models = core.models;
export const columns = core.columns;
export const VERDICTS = ["unsure", "better", "worse", "untested"];

// A measure is a column, or a mean behind the last column.
export const measures = [
  ...columns.map((column, number) => ({
    number, label: column.label, language: column.language, isMean: false, share: column.is_share,
    lower: column.lower_is_better, column,
  })),
  ...core.means.map((mean, place) => ({
    number: columns.length + place, label: mean.name, language: mean.name, isMean: true, share: true,
    lower: false, mean,
  })),
];

const scores = measures.map(() => new Array(models.length).fill(null));

core.cells.forEach((cell, number) => {
  const [model, column, value, low, high, items, best, worst, letters, source, apart] = cell;
  const score = { value, low, high, items, best, worst, letters, source, apart: apart ?? "", number };
  const other = scores[column][model];
  if (!other || (other.apart && !score.apart)) scores[column][model] = score;
});

core.means.forEach((mean, place) => {
  for (const [model, raw, rawError, normalized, error, best, worst, letters] of mean.scores) {
    scores[columns.length + place][model] = { raw, rawError, normalized, error, best, worst, letters, apart: "" };
  }
});

// Score of a model in a measure, or null.
export function scoreOf(model, measure, normalized = true) {
  const score = scores[measure.number][model];
  if (!score || !measure.isMean) return score;
  const [value, error] = normalized ? [score.normalized, score.error] : [score.raw, score.rawError];
  return { ...score, value, low: value - 1.96 * error, high: value + 1.96 * error, error };
}

const REVERSED = { unsure: "unsure", better: "worse", worse: "better", untested: "untested" };

let tested = null;

export async function loadTests() {
  const later = await chunk("later");
  if (!later || tested) return tested;
  const { differences, subjects } = later.values;
  tested = { ...later.values, byPair: new Map(), bySubject: new Map() };
  differences.first.forEach((first, i) => {
    tested.byPair.set(pairKey(first, differences.second[i], differences.column[i]), i);
  });
  subjects.first.forEach((first, i) => {
    const name = subjects.subject_names[subjects.subject[i]];
    tested.bySubject.set(`${pairKey(first, subjects.second[i], subjects.column[i])} ${name}`, i);
  });
  return tested;
}

function pairKey(first, second, measure) {
  return `${first} ${second} ${measure}`;
}

function oriented(found, reversed) {
  if (!reversed) return found;
  return {
    ...found, value: negative(found.value), low: negative(found.high), high: negative(found.low),
    gained: found.lost, lost: found.gained, verdict: REVERSED[found.verdict],
  };
}

function negative(value) {
  return value === null || value === undefined ? null : -value;
}

// The board's own test of `second` against `first`; null if the pair isn't in the family.
export function testOf(first, second, measure) {
  if (!tested) return null;
  const list = tested.differences;
  const straight = tested.byPair.get(pairKey(first, second, measure.number));
  const i = straight ?? tested.byPair.get(pairKey(second, first, measure.number));
  if (i === undefined) return null;
  const found = { verdict: VERDICTS[list.verdict[i]], test: list.tests[list.test[i]], problem: list.problems[list.problem[i]] };
  for (const name of ["value", "low", "high", "p_value", "p_adjusted", "detectable", "num_pairs", "num_clusters",
    "gained", "lost", "family"]) found[name] = list[name][i];
  return oriented(found, straight === undefined);
}

export function subjectTestOf(first, second, column, subject) {
  if (!tested) return null;
  const list = tested.subjects;
  const straight = tested.bySubject.get(`${pairKey(first, second, column)} ${subject}`);
  const i = straight ?? tested.bySubject.get(`${pairKey(second, first, column)} ${subject}`);
  if (i === undefined) return null;
  const found = { verdict: VERDICTS[list.verdict[i]] };
  for (const name of ["value", "low", "high", "p_adjusted", "detectable", "num_pairs"]) found[name] = list[name][i];
  return oriented(found, straight === undefined);
}
